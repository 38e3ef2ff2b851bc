// Package durable writes and reads files. Writes are atomic: after a kill or a power cut at any moment, a reader finds the
// old file or the new one, never a partial one. [Lines] appends whole lines to a file. A [State] is the file from which a service
// continues after a restart, and a [Saver] writes such a file in the background, with retries. [Own] and [Lock] exclude other
// processes. Only regular files are opened, and reads are bounded.
package durable

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile replaces the file with the data. It writes a temporary file in the same folder, syncs and renames it, and then
// syncs the folder. A file must have one writer at a time: the temporary file has a fixed name, see [Temporary], so that a
// kill leaves at most one, which the next write replaces. The file gets the mode perm, whatever it had before.
//
// After an error the old file is unchanged, unless it is an [UnsureError]: then the new file is in place, but a power cut may
// bring back the old one.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, content(data))
}

// Write is [WriteFile] for the output of write.
func Write(path string, perm fs.FileMode, write func(io.Writer) error) error {
	file, err := WriteLocked(path, perm, unaware(write))
	if file == nil {
		return err
	}
	return errors.Join(err, unsure(path, file.Close()))
}

// WriteLocked is like [Write], but leaves the file open and locked (see [Lock]): other processes see that its writer is alive and
// may replace it. locked reports whether the file is locked: some network file systems have no locks. The returned file is nil
// unless it has its final name, which it also has after an [UnsureError].
func WriteLocked(path string, perm fs.FileMode, write func(w io.Writer, locked bool) error) (*os.File, error) {
	temporary := Temporary(path)
	file, err := create(func(flag int) (*os.File, error) { return os.OpenFile(temporary, flag, perm) }, func() error { return os.Remove(temporary) }, write)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil { // before closing it, which unlocks it
		return nil, errors.Join(err, file.Close(), os.Remove(temporary))
	}
	return file, unsure(path, SyncDir(filepath.Dir(path)))
}

// Temporary returns the name under which a file is written.
func Temporary(path string) string {
	dir, name := filepath.Split(path)
	return dir + "." + name + ".tmp"
}

// CreateIn creates a file below root with the data and replaces an existing file. The data is on disk when it returns, but the
// name only after [SyncDirIn].
func CreateIn(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	return CopyIn(root, name, bytes.NewReader(data), perm)
}

// CopyIn is [CreateIn] with the content of from, of any length.
func CopyIn(root *os.Root, name string, from io.Reader, perm fs.FileMode) error {
	file, err := create(func(flag int) (*os.File, error) { return root.OpenFile(name, flag, perm) }, func() error { return root.Remove(name) }, unaware(func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	}))
	if err != nil {
		return err
	}
	return file.Close()
}

// WriteFileIn is [WriteFile] for a file below root.
func WriteFileIn(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	temporary := Temporary(name)
	if err := CreateIn(root, temporary, data, perm); err != nil {
		return err
	}
	if err := root.Rename(temporary, name); err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return unsure(name, SyncDirIn(root, filepath.Dir(name)))
}

// create creates a file, writes it and syncs it. The lock shows that its writer is alive. After an error there is no file.
func create(open func(flag int) (*os.File, error), remove func() error, write func(w io.Writer, locked bool) error) (*os.File, error) {
	if err := remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := open(os.O_WRONLY | os.O_CREATE | os.O_EXCL)
	if err != nil {
		return nil, err
	}
	locked := Lock(file, 0) == nil // without locks, as on some network file systems, RemoveAbandoned removes nothing
	w := bufio.NewWriterSize(file, 1<<16)
	if err = write(w, locked); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = Sync(file)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), remove())
	}
	return file, nil
}

// unaware adapts a write that ignores the lock.
func unaware(write func(io.Writer) error) func(io.Writer, bool) error {
	return func(w io.Writer, _ bool) error { return write(w) }
}

func content(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// RemoveAbandoned removes the temporary file of a killed writer. It leaves the file if its writer is alive.
func RemoveAbandoned(temporary string) error {
	file, err := Open(temporary)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := Lock(file, 0); err != nil {
		return nil // its writer is alive
	}
	return os.Remove(temporary)
}

// SyncDir makes changes to the folder's entries survive a power cut. An empty dir is the current folder.
func SyncDir(dir string) error {
	return syncDir(OpenDir(dir))
}

// SyncDirIn is [SyncDir] for a folder below root.
func SyncDirIn(root *os.Root, name string) error { return syncDir(OpenDirIn(root, name)) }

func syncDir(dir *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(Sync(dir), dir.Close())
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
