package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotRegular is the error of a path that names a FIFO, a device, a socket or a folder where a file is expected.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is the error of a file that has more bytes than its reader accepts.
var ErrTooLarge = errors.New("file is too large")

// Open opens a regular file for reading. Anything else is [ErrNotRegular]; Open never waits for the other end of a FIFO.
func Open(path string) (*os.File, error) {
	return regular(path, func(flag int) (*os.File, error) { return os.OpenFile(path, flag, 0) })
}

// OpenIn opens a regular file below root for reading, as [Open] does.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	return regular(name, func(flag int) (*os.File, error) { return root.OpenFile(name, flag, 0) })
}

// regular opens without blocking and checks what it has opened, so that the path cannot be exchanged in between.
func regular(path string, open func(flag int) (*os.File, error)) (*os.File, error) {
	f, err := open(os.O_RDONLY | syscall.O_NONBLOCK)
	if err != nil {
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
	return readAll(f, path, limit)
}

// ReadFileIn returns the content of a regular file below root, as [ReadFile] does.
func ReadFileIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, limit)
}

func readAll(r io.Reader, path string, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)}
	}
	return raw, nil
}
