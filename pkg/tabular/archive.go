// Package tabular reads stored tables as lines of text: plain, gzip, zip or Parquet files, in UTF-8 or UTF-16. It bounds what
// hostile files can make it allocate, and computes the digest of the stored bytes.
package tabular

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

	"golang.org/x/text/encoding/unicode"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// DefaultMaxBytes is the default of [Options.MaxBytes].
const DefaultMaxBytes = 4 << 30

// Options controls [Open]. The zero value is ready to use.
type Options struct {
	// MaxBytes limits the text of one file, or of all members of a zip together. 0 means 4 GiB.
	MaxBytes int64
	// Member is the number of the file in a zip, from 0: see [Archive.Members].
	Member int
	// Read, which may be nil, is called with the number of stored bytes that were just read.
	Read func(n int64)
}

// Archive is one stored file, open for reading as text.
type Archive struct {
	path string
	// name is the name of the text inside: the zip member's name, otherwise the file's name without .gz.
	name    string
	members []string
	size    int64 // stored bytes
	file    *os.File
	text    io.Reader
	rest    io.Reader // the stored bytes that the digest still needs
	hash    hash.Hash
	left    int64 // bytes of text that may still be read
	limit   int64
	parquet bool
}

// Open opens a stored file. It detects the format from the first bytes, not from the name.
func Open(path string, opts Options) (*Archive, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
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
	a := &Archive{path: path, size: info.Size(), file: f, hash: sha256.New(), left: opts.MaxBytes, limit: opts.MaxBytes}
	if err := a.open(opts); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// Name returns the name of the text inside: the zip member's name, otherwise the file's name without .gz.
func (a *Archive) Name() string { return a.name }

// Size returns the number of stored bytes to read for the text.
func (a *Archive) Size() int64 { return a.size }

// Members returns the names of the files of a zip, or nil for other files.
func (a *Archive) Members() []string { return a.members }

// Close closes the stored file.
func (a *Archive) Close() error { return a.file.Close() }

func (a *Archive) open(opts Options) (err error) {
	counted := &countedReader{r: io.TeeReader(a.file, a.hash), read: opts.Read}
	stored := bufio.NewReaderSize(counted, 256<<10)
	a.rest, a.name = stored, strings.TrimSuffix(filepath.Base(a.path), ".gz")
	magic, _ := stored.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		if a.text, err = gzip.NewReader(stored); err != nil {
			return a.broken(err)
		}
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")), bytes.HasPrefix(magic, []byte("PK\x05\x06")):
		if err := a.openZip(opts); err != nil {
			return err
		}
	case bytes.HasPrefix(magic, []byte("PAR1")):
		a.fromStart()
		a.parquet = true
		if a.text, err = newParquet(&countedReaderAt{r: a.file, read: opts.Read}, a.size); err != nil {
			return a.broken(err)
		}
		return nil
	default:
		a.text = stored
	}
	a.text = utf8From(a.text)
	return nil
}

// fromStart defers the digest to the end, for files that are not read sequentially.
func (a *Archive) fromStart() {
	a.hash.Reset()
	a.rest = io.TeeReader(io.NewSectionReader(a.file, 0, a.size), a.hash)
}

func (a *Archive) openZip(opts Options) error {
	a.fromStart()
	z, err := zip.NewReader(&countedReaderAt{r: a.file, read: opts.Read}, a.size)
	if err != nil {
		return a.broken(err)
	}
	var members []*zip.File
	var total uint64
	for _, m := range z.File {
		if m.FileInfo().IsDir() || strings.HasPrefix(m.Name, "__MACOSX/") {
			continue
		}
		if m.UncompressedSize64 > uint64(a.limit)-total { // the sum cannot overflow
			return a.tooLarge()
		}
		total += m.UncompressedSize64
		members, a.members = append(members, m), append(a.members, m.Name)
	}
	switch {
	case len(members) > durable.MaxEntries:
		return fmt.Errorf("%s: %w: the zip holds %d files, at most %d are read", a.path, durable.ErrTooLarge, len(members), durable.MaxEntries)
	case opts.Member >= len(members):
		return fmt.Errorf("%s: the zip holds %d files, want at least %d", a.path, len(members), opts.Member+1)
	}
	m := members[opts.Member]
	if m.Flags&1 != 0 {
		return fmt.Errorf("%s: the zip is encrypted; unpack it and name the file inside", a.path)
	}
	if a.text, err = m.Open(); err != nil {
		return a.broken(err)
	}
	a.name = strings.TrimSuffix(filepath.Base(m.Name), ".gz")
	if len(members) > 1 {
		a.size = int64(min(m.CompressedSize64, uint64(a.size)))
	}
	return nil
}

// utf8From decodes UTF-16, which some terminals export, with or without a byte order mark.
func utf8From(text io.Reader) io.Reader {
	b := bufio.NewReader(text)
	start, _ := b.Peek(4)
	order := unicode.BigEndian
	switch {
	case bytes.HasPrefix(start, []byte{0xfe, 0xff}):
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}):
		order = unicode.LittleEndian
	case len(start) == 4 && start[0] == 0 && start[2] == 0 && start[1] != 0 && start[3] != 0:
	case len(start) == 4 && start[1] == 0 && start[3] == 0 && start[0] != 0 && start[2] != 0:
		order = unicode.LittleEndian
	default:
		return b
	}
	return unicode.UTF16(order, unicode.UseBOM).NewDecoder().Reader(b)
}

// Read reads text up to the limit.
func (a *Archive) Read(p []byte) (int, error) {
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

// Digest reads the remaining stored bytes and returns the SHA-256 of all of them, in lower-case hexadecimal.
func (a *Archive) Digest() (string, error) {
	if _, err := io.Copy(io.Discard, a.rest); err != nil {
		return "", a.broken(err)
	}
	return hex.EncodeToString(a.hash.Sum(nil)), nil
}

func (a *Archive) tooLarge() error {
	return fmt.Errorf("%s: the text is larger than %d bytes; if you trust the file, raise the limit (MaxBytes)", a.path, a.limit)
}

// broken turns a failed read into an error for the owner of the file.
func (a *Archive) broken(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case a.parquet:
		return fmt.Errorf("%s: %w", a.path, err)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%s: the compressed file is truncated; copy or download it again: %w", a.path, io.ErrUnexpectedEOF)
	case errors.Is(err, zip.ErrFormat):
		return fmt.Errorf("%s: the zip is truncated or damaged; copy or download it again: %w", a.path, err)
	case errors.As(err, &corrupt), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, zip.ErrChecksum):
		return fmt.Errorf("%s: the compressed file is damaged; copy or download it again: %w", a.path, err)
	}
	return fmt.Errorf("%s: %w", a.path, err)
}

// countedReader reports how many bytes were read.
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

// countedReaderAt reports how many bytes were read.
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
