package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// ErrNotRegular is returned for a path that names a FIFO, a device, a socket or a folder where a file is expected.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is returned for a file with more bytes than its reader accepts.
var ErrTooLarge = errors.New("file is too large")

const (
	// MaxDocument limits a document, in bytes: a plan, a policy, a report, or the journal of a run.
	MaxDocument = 64 << 20
	// MaxEntries limits the entries read from a folder.
	MaxEntries = 100_000
)

// Open opens a regular file for reading. Anything else is [ErrNotRegular]; Open never waits for the other end of a FIFO.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY, 0) }

// OpenFile opens a regular file like [os.OpenFile]. Anything else is [ErrNotRegular], and nothing blocks.
func OpenFile(path string, flag int, perm fs.FileMode) (*os.File, error) {
	return regular(path, func() (*os.File, error) { return os.OpenFile(path, flag|syscall.O_NONBLOCK, perm) })
}

// OpenRoot opens a folder like [os.OpenRoot], but does not wait for the other end of a FIFO.
func OpenRoot(dir string) (*os.Root, error) { return os.OpenRoot(folder(dir)) }

// OpenRootIn is [OpenRoot] for a folder below root.
func OpenRootIn(root *os.Root, name string) (*os.Root, error) { return root.OpenRoot(folder(name)) }

// OpenDir opens a folder, to sync or to lock it. Anything else is an error, and nothing blocks.
func OpenDir(dir string) (*os.File, error) { return os.Open(folder(dir)) }

// OpenDirIn is [OpenDir] for a folder below root.
func OpenDirIn(root *os.Root, name string) (*os.File, error) { return root.Open(folder(name)) }

// folder returns the path of a folder. The dot makes opening anything else an error; without it, opening a FIFO would block.
func folder(dir string) string {
	if dir == "" {
		return "."
	}
	return dir + "/."
}

// OpenIn is [Open] for a file below root.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	return OpenFileIn(root, name, os.O_RDONLY, 0)
}

// OpenFileIn is [OpenFile] for a file below root.
func OpenFileIn(root *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error) {
	return regular(name, func() (*os.File, error) { return root.OpenFile(name, flag|syscall.O_NONBLOCK, perm) })
}

// regular checks the file after opening it without blocking, so that the path cannot change in between.
func regular(path string, open func() (*os.File, error)) (*os.File, error) {
	f, err := open()
	if errors.Is(err, syscall.ENXIO) { // a FIFO that nobody reads, or a socket
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) && failed.Op == "openat" { // from an os.Root; the difference does not matter to people
			failed.Op = "open"
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadFile returns the content of a regular file of at most limit bytes; a longer one is [ErrTooLarge].
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, limit)
}

// ReadFileIn is [ReadFile] for a file below root.
func ReadFileIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, limit)
}

// ReadAll returns the rest of an open file, at most limit bytes; more is [ErrTooLarge]. A file whose reported size exceeds
// the limit is refused without reading it.
func ReadAll(f *os.File, limit int64) ([]byte, error) {
	tooLarge := &fs.PathError{Op: "read", Path: f.Name(), Err: fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)}
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if at, err := f.Seek(0, io.SeekCurrent); err != nil {
		return nil, err
	} else if info.Size()-at > limit {
		return nil, tooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, tooLarge
	}
	return raw, nil
}

// ReadDir returns the entries of a folder, sorted by name. If there are more than limit, the error is [ErrTooLarge], so that
// a large folder cannot exhaust memory.
func ReadDir(dir string, limit int) ([]fs.DirEntry, error) {
	return readDir(dir, limit, OpenDir)
}

// ReadDirIn is [ReadDir] for a folder below root.
func ReadDirIn(root *os.Root, name string, limit int) ([]fs.DirEntry, error) {
	return readDir(name, limit, func(name string) (*os.File, error) { return OpenDirIn(root, name) })
}

func readDir(dir string, limit int, open func(string) (*os.File, error)) ([]fs.DirEntry, error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > limit {
		return nil, &fs.PathError{Op: "read", Path: dir, Err: fmt.Errorf("%w: over %d entries", ErrTooLarge, limit)}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}
