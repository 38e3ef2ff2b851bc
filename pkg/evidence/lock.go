package evidence

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPoll is the pause between two tries for the lock. flock could wait by itself, but not for a bounded time.
const lockPoll = 10 * time.Millisecond

// flock takes the lock (syscall.LOCK_EX or LOCK_SH) on file, which is released when file is closed or its process ends,
// by whatever means: a killed writer leaves no lock behind. It waits at most wait; then the error is ErrLocked.
func flock(file *os.File, how int, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		case !time.Now().Before(deadline):
			return fmt.Errorf("lock %s: %w (waited %v)", file.Name(), ErrLocked, max(0, wait))
		}
		time.Sleep(lockPoll)
	}
}
