package featurelog

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// disk is the part of the file system that writing uses. Tests inject faults here.
type disk struct {
	mkdir  func(dir string) error
	create func(path string) (file, error)
	rename func(from, to string) error
	remove func(path string) error
	sync   func(dir string) error
}

type file interface {
	io.WriteCloser
	Sync() error
}

// realDisk is the real file system.
var realDisk = disk{mkdir: makeDir, create: createLocked, rename: os.Rename, remove: os.Remove, sync: durable.SyncDir}

// save creates a complete file with what write writes, or leaves the existing file unchanged.
func (d disk) save(path string, write func(io.Writer) error) (err error) {
	if err := d.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	tmp := temporary(path)
	f, err := d.create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = d.remove(tmp) // best effort: the next start sweeps
		}
	}()
	b := bufio.NewWriterSize(f, 1<<16)
	if err := write(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := d.rename(tmp, path); err != nil { // before closing, which releases the lock
		return err
	}
	return d.sync(filepath.Dir(path))
}

// makeDir creates the folder of a partition and makes it survive a power loss.
func makeDir(dir string) error { return durable.MkdirAll(dir, 0o755) }

// createLocked creates a file and locks it while it is open, which shows that its process is alive.
func createLocked(path string) (file, error) {
	f, err := durable.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if errors.Is(err, durable.ErrNotRegular) { // the name belongs to this process alone
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		f, err = durable.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return onDisk{f}, nil
}

// onDisk is an [os.File] whose Sync can be made to fail by tests.
type onDisk struct{ *os.File }

// Sync implements file.
func (f onDisk) Sync() error { return durable.Sync(f.File) }

// removeDead removes a temporary file unless a process has locked it. If a process is just between creating and locking
// it, its rename fails and it writes the part again at its next flush, so nothing is lost.
func removeDead(path string) error {
	f, err := durable.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return nil // its process is alive
	}
	return os.Remove(path)
}

func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
