package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrOwned is returned for a file or folder that another process has locked.
var ErrOwned = errors.New("another process owns it")

// Own creates the folder if it is missing and locks it until the closer is closed or the process ends. It returns [ErrOwned]
// if another process owns it.
func Own(dir string) (io.Closer, error) {
	if err := MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := Lock(lock, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("folder %s: %w", dir, err), lock.Close())
	}
	return lock, nil
}

// Lock locks an open file or folder, or returns [ErrOwned] if that takes longer than wait. The lock ends when the file is
// closed or its process ends, even by a kill.
func Lock(f *os.File, wait time.Duration) error { return flock(f, syscall.LOCK_EX, wait) }

// RLock is [Lock] for readers, which exclude only writers.
func RLock(f *os.File, wait time.Duration) error { return flock(f, syscall.LOCK_SH, wait) }

// lockPoll is the pause between two attempts. The system call itself has no timeout.
const lockPoll = 5 * time.Millisecond

func flock(f *os.File, how int, wait time.Duration) error {
	for limit := time.Now().Add(wait); ; time.Sleep(lockPoll) {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		case !time.Now().Before(limit):
			return ErrOwned
		}
	}
}
