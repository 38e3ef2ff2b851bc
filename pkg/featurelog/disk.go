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

// disk is what writing takes of the file system. Tests put faults into it.
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

// realDisk is the file system.
var realDisk = disk{mkdir: makeDir, create: createLocked, rename: os.Rename, remove: os.Remove, sync: durable.SyncDir}

// save makes a whole file of what write writes, or leaves the one of that name as it was.
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
			_ = d.remove(tmp) // if it is gone, or cannot be removed: the next start sweeps
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
	if err := d.rename(tmp, path); err != nil { // before the close, which gives up the lock
		return err
	}
	return d.sync(filepath.Dir(path))
}

// makeDir makes the folder of a partition, so that it is there after a loss of power.
func makeDir(dir string) error { return durable.MkdirAll(dir, 0o755) }

// createLocked makes a file and locks it for as long as it is open, to show that its process lives.
func createLocked(path string) (file, error) {
	f, err := durable.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if errors.Is(err, durable.ErrNotRegular) { // under a name that is only ours
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

// onDisk is an [os.File] whose Sync tests can make fail.
type onDisk struct{ *os.File }

// Sync implements file.
func (f onDisk) Sync() error { return durable.Sync(f.File) }

// removeDead removes a temporary file unless a process has it locked. Where a process is just between making it and
// locking it, its rename fails, and it writes the part again at its next flush: nothing is lost.
func removeDead(path string) error {
	f, err := durable.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return nil // it is alive
	}
	return os.Remove(path)
}

func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
