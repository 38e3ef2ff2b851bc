package market

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// archive is one stored file: plain, gzip, or a zip that holds a single file. It reads as plain text and computes the
// digest of the stored bytes on the way.
type archive struct {
	path string
	// name is the name of the text inside: the zip's entry, otherwise the file's own name without .gz.
	name  string
	file  *os.File
	text  io.Reader
	rest  io.Reader // the stored bytes left to read for the digest
	hash  hash.Hash
	left  int64 // bytes of text that may still be read
	limit int64
}

// openArchive opens a stored file. The kind is recognised by its first bytes, not by its name. read, which may be nil,
// is called with the number of stored bytes that were just read.
func openArchive(path string, limit int64, read func(n int64)) (*archive, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s: is not a regular file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s: the file is empty", path)
	}
	f, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	a := &archive{path: path, file: f, hash: sha256.New(), left: limit, limit: limit}
	if err := a.open(info.Size(), read); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

func (a *archive) open(size int64, read func(n int64)) (err error) {
	counted := &countedReader{r: io.TeeReader(a.file, a.hash), read: read}
	stored := bufio.NewReaderSize(counted, 256<<10)
	a.rest, a.name = stored, strings.TrimSuffix(filepath.Base(a.path), ".gz")
	magic, _ := stored.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		if a.text, err = gzip.NewReader(stored); err != nil {
			return a.broken(err)
		}
		return nil
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")), bytes.HasPrefix(magic, []byte("PK\x05\x06")):
		return a.openZip(size, read)
	}
	a.text = stored
	return nil
}

// openZip defers the digest to the end: a zip is not read from the front.
func (a *archive) openZip(size int64, read func(n int64)) error {
	a.hash.Reset()
	a.rest = io.TeeReader(io.NewSectionReader(a.file, 0, size), a.hash)
	z, err := zip.NewReader(&countedReaderAt{r: a.file, read: read}, size)
	if err != nil {
		return a.broken(err)
	}
	var entries []*zip.File
	var names []string
	for _, e := range z.File {
		if !e.FileInfo().IsDir() && !strings.HasPrefix(e.Name, "__MACOSX/") {
			entries, names = append(entries, e), append(names, e.Name)
		}
	}
	if len(entries) != 1 {
		return fmt.Errorf("%s: the zip holds %d files, expected one%s", a.path, len(entries), listed(": ", names))
	}
	e := entries[0]
	switch {
	case e.Flags&1 != 0:
		return fmt.Errorf("%s: the zip is encrypted; unpack it and name the file inside", a.path)
	case e.UncompressedSize64 > uint64(a.limit):
		return a.tooLarge()
	}
	if a.text, err = e.Open(); err != nil {
		return a.broken(err)
	}
	a.name = strings.TrimSuffix(filepath.Base(e.Name), ".gz")
	return nil
}

// Read reads text up to the limit.
func (a *archive) Read(p []byte) (int, error) {
	if a.left <= 0 {
		var one [1]byte
		if n, err := io.ReadFull(a.text, one[:]); n == 0 {
			if errors.Is(err, io.EOF) {
				return 0, io.EOF
			}
			return 0, a.broken(err)
		}
		return 0, a.tooLarge()
	}
	if int64(len(p)) > a.left {
		p = p[:a.left]
	}
	n, err := a.text.Read(p)
	a.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = a.broken(err)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay unwrapped
}

// digest reads the remaining stored bytes and returns their SHA-256.
func (a *archive) digest() (string, error) {
	if _, err := io.Copy(io.Discard, a.rest); err != nil {
		return "", a.broken(err)
	}
	return hex.EncodeToString(a.hash.Sum(nil)), nil
}

func (a *archive) Close() error { return a.file.Close() }

func (a *archive) tooLarge() error {
	return fmt.Errorf("%s: the text is larger than %d bytes; if you trust the file, raise the limit (MaxBytes)", a.path, a.limit)
}

// broken explains a failed read to the person who has the file.
func (a *archive) broken(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%s: the compressed file is truncated; copy or download it again: %w", a.path, io.ErrUnexpectedEOF)
	case errors.Is(err, zip.ErrFormat):
		return fmt.Errorf("%s: the zip is truncated or damaged; copy or download it again: %w", a.path, err)
	case errors.As(err, &corrupt), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, zip.ErrChecksum):
		return fmt.Errorf("%s: the compressed file is damaged; copy or download it again: %w", a.path, err)
	}
	return fmt.Errorf("%s: %w", a.path, err)
}

// countedReader reports how much was read.
type countedReader struct {
	r    io.Reader
	read func(n int64)
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.read != nil && n > 0 {
		c.read(int64(n))
	}
	return n, err
}

// countedReaderAt reports how much was read.
type countedReaderAt struct {
	r    io.ReaderAt
	read func(n int64)
}

func (c *countedReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	if c.read != nil && n > 0 {
		c.read(int64(n))
	}
	return n, err
}

// listed joins names after a separator. It returns nothing for no names, and only the first few of many.
func listed(separator string, names []string) string {
	const most = 12
	switch {
	case len(names) == 0:
		return ""
	case len(names) > most:
		return fmt.Sprintf("%s%s and %d more", separator, strings.Join(names[:most], ", "), len(names)-most)
	}
	return separator + strings.Join(names, ", ")
}
