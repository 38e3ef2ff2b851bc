// Package durable writes and reads files. Writes are atomic: after a kill or a power cut at any moment, a reader finds the
// old file or the new one, never a part of one. Files that grow get whole records. Only regular files are opened, and reads
// are bounded.
package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// WriteFile replaces the file with the output of write. It writes a temporary file in the same folder, syncs and renames it,
// and then syncs the folder. A file must have one writer at a time: the temporary file has a fixed name, so that a kill
// leaves at most one, which the next write replaces. The file gets the mode perm, whatever it had before.
//
// After an error the old file is there, unless it is an [UnsureError]: then the new one is there, and a power cut may bring
// back the old one.
func WriteFile(path string, perm fs.FileMode, write func(io.Writer) error) error {
	dir, name := filepath.Split(path)
	temporary := filepath.Join(dir, "."+name+".tmp")
	err := create(temporary, perm, write)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, discard(temporary))
	}
	return unsure(path, SyncDir(dir))
}

// create writes and syncs the temporary file.
func create(path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	if err := discard(path); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<16)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return Sync(file)
}

func discard(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDir makes changes of the folder's entries survive a power cut. An empty dir is the current folder.
func SyncDir(dir string) error {
	f, err := OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(Sync(f), f.Close())
}

// MkdirAll creates the folder and its missing parents, durably. Existing folders are left unchanged.
func MkdirAll(dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	above := filepath.Dir(dir)
	if err := MkdirAll(above, perm); err != nil {
		return err
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(above)
}

// SetAside renames an unusable file to a new name and returns that name, so that its content is not lost when a new file is
// written. After an [UnsureError] the file has that name, but a power cut may undo the rename.
func SetAside(path string, now time.Time) (aside string, err error) {
	stamp := now.UTC().Format("20060102T150405.000Z")
	for n := range 100 {
		aside = fmt.Sprintf("%s.unusable-%s", path, stamp)
		if n > 0 {
			aside += fmt.Sprintf("-%d", n+1)
		}
		switch _, err := os.Lstat(aside); {
		case errors.Is(err, fs.ErrNotExist):
			if err := os.Rename(path, aside); err != nil {
				return "", err
			}
			return aside, unsure(path, SyncDir(filepath.Dir(path)))
		case err != nil:
			return "", err
		}
	}
	return "", fmt.Errorf("set %s aside: %w", path, fs.ErrExist)
}

// ErrOwned is the error of a folder that another process owns.
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
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrOwned
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("folder %s: %w", dir, err), lock.Close())
	}
	return lock, nil
}
