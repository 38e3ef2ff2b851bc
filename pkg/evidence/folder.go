package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// folder does the disk work below one directory, which no name and no symbolic link can leave.
type folder struct{ root *os.Root }

// replace puts data at name such that, whatever happens, name has its old content or the new.
func (f folder) replace(name string, data []byte) error {
	if err := f.stage(name, data); err != nil {
		return err
	}
	return f.publish(name)
}

// stage writes data to the temporary file of name, on disk when it returns.
func (f folder) stage(name string, data []byte) (err error) {
	if err := f.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	temp := tempName(name)
	file, err := f.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := writeAndClose(file, data); err != nil {
		return errors.Join(err, f.root.Remove(temp))
	}
	return f.syncDirs(name)
}

// publish renames the temporary file of name to name, on disk when it returns.
func (f folder) publish(name string) error {
	if err := f.root.Rename(tempName(name), name); err != nil {
		return err
	}
	return f.syncDirs(name)
}

// append adds data to the end of name, which exists; on disk when it returns.
func (f folder) append(name string, data []byte) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	return writeAndClose(file, data)
}

func writeAndClose(file *os.File, data []byte) error {
	_, err := file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDirs puts the entries of name and of the sub-folders that hold it on disk.
func (f folder) syncDirs(name string) error {
	for name != "." {
		name = path.Dir(name)
		dir, err := f.root.Open(name)
		if err != nil {
			return err
		}
		if err := syncAndClose(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncAndClose(dir *os.File) error {
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync folder %q: %w", dir.Name(), err)
	}
	return nil
}

// read is the content of name; nil without an error if there is no such file.
func (f folder) read(name string) ([]byte, error) {
	data, err := f.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// digest is the SHA-256 and size of the regular file name.
func (f folder) digest(name string) (sum string, size int64, err error) {
	if err := f.regular(name); err != nil {
		return "", 0, err
	}
	file, err := f.root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	return digest(file)
}

// errNotRegular means a folder, a symbolic link or a device where a file should be.
var errNotRegular = errors.New("is not a regular file")

// regular is nil if name is a regular file, fs.ErrNotExist if it does not exist.
func (f folder) regular(name string) error {
	info, err := f.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	return err
}

// files calls visit for everything below the folder that is not a folder itself, in the order of names.
func (f folder) files(visit func(name string) error) error {
	return fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return visit(name)
	})
}
