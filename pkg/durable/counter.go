package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// OpenCounter opens the file of a counter, or creates it at 0.
func OpenCounter(path string) (*Counter, error) {
	f, err := OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the mapping stays
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch info.Size() {
	case counterSize:
	case 0: // written and not just extended, so that a full disk is an error here and not a signal later
		if _, err = f.Write(make([]byte, counterSize)); err == nil {
			err = errors.Join(Sync(f), SyncDir(filepath.Dir(path)))
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
	default:
		return nil, fmt.Errorf("%s has %d bytes: a counter has %d; remove it to begin at 0", path, info.Size(), counterSize)
	}
	mapped, err := syscall.Mmap(int(f.Fd()), 0, counterSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Counter{mapped, (*atomic.Uint64)(unsafe.Pointer(&mapped[0]))}, nil
}

// Add adds 1.
func (c *Counter) Add() { c.n.Add(1) }

// Load returns the number.
func (c *Counter) Load() uint64 { return c.n.Load() }

// Close unmaps the file. The counter must not be used afterwards.
func (c *Counter) Close() error { return syscall.Munmap(c.mapped) }
