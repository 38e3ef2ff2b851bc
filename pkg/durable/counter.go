package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// counterSize is the size of a [Counter]'s file: one page. Only the first 8 bytes are used, in the machine's byte order.
const counterSize = 4096

// Counter is a number in a file that is mapped into memory. Adding takes nanoseconds, and a killed process loses nothing. A
// power cut may bring back an older number. A file must have one writer at a time.
type Counter struct {
	mapped []byte
	n      *atomic.Uint64
}

// maxCounter is the largest number of a [Counter]: a million a second for 35 years.
const maxCounter = 1 << 50

// OpenCounter opens a counter's file. If there is none, the error is [fs.ErrNotExist]. Any other file, for example one of
// another size, is set aside, and the error is an [*UnusableError]. Call [CreateCounter] to start over.
func OpenCounter(path string) (*Counter, error) {
	if err := Restore(path, counterSize, validCounter); err != nil {
		return nil, err
	}
	f, err := OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the mapping stays
	mapped, err := syscall.Mmap(int(f.Fd()), 0, counterSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Counter{mapped, (*atomic.Uint64)(unsafe.Pointer(&mapped[0]))}, nil
}

func validCounter(raw []byte) error {
	switch {
	case len(raw) != counterSize:
		return fmt.Errorf("%d bytes: a counter has %d", len(raw), counterSize)
	case binary.NativeEndian.Uint64(raw) > maxCounter || slices.Max(raw[8:]) != 0:
		return errors.New("not a counter's file")
	}
	return nil
}

// CreateCounter creates a counter's file that starts at n. It replaces an existing file.
func CreateCounter(path string, n uint64) (*Counter, error) {
	// Write the whole page, so that a full disk is an error here and not a SIGBUS later.
	page := make([]byte, counterSize)
	binary.NativeEndian.PutUint64(page, n)
	if err := WriteFile(path, page, 0o644); err != nil {
		return nil, err
	}
	return OpenCounter(path)
}

// Raise sets the number to n unless it is already larger, for a file that is older after a power cut. It is not safe for
// concurrent use.
func (c *Counter) Raise(n uint64) { c.n.Store(max(n, c.n.Load())) }

// Add adds 1.
func (c *Counter) Add() { c.n.Add(1) }

// Load returns the number.
func (c *Counter) Load() uint64 { return c.n.Load() }

// Close unmaps the file. The counter must not be used afterwards.
func (c *Counter) Close() error { return syscall.Munmap(c.mapped) }
