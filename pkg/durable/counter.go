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

// counterSize is the size of the file of a [Counter], a page, of which the first 8 bytes are used, in the byte order of the
// machine.
const counterSize = 4096

// Counter is a number in a file that is mapped into memory. Adding to it takes nanoseconds, and a kill of the process loses
// nothing of it. A power cut may bring back an older number. A file must have one writer at a time.
type Counter struct {
	mapped []byte
	n      *atomic.Uint64
}

// maxCounter is the largest number of a [Counter]: a million a second for 35 years.
const maxCounter = 1 << 50

// OpenCounter opens the file of a counter. Without a file the error is [fs.ErrNotExist]. A file that no counter has written, for
// example of another size, is set aside, and the error is an [*UnusableError]. [CreateCounter] begins again.
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
		return errors.New("no counter has written this")
	}
	return nil
}

// CreateCounter creates the file of a counter at n, in place of any file that is there.
func CreateCounter(path string, n uint64) (*Counter, error) {
	// All of it is written, so that a full disk is an error here and not a signal later.
	page := make([]byte, counterSize)
	binary.NativeEndian.PutUint64(page, n)
	if err := WriteFile(path, page, 0o644); err != nil {
		return nil, err
	}
	return OpenCounter(path)
}

// Raise makes the number n, unless it is larger. It is for a file that a power cut has brought back, and not for concurrent use.
func (c *Counter) Raise(n uint64) { c.n.Store(max(n, c.n.Load())) }

// Add adds 1.
func (c *Counter) Add() { c.n.Add(1) }

// Load returns the number.
func (c *Counter) Load() uint64 { return c.n.Load() }

// Close unmaps the file. The counter must not be used afterwards.
func (c *Counter) Close() error { return syscall.Munmap(c.mapped) }
