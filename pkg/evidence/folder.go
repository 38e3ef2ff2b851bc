package evidence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// folder does the disk work in one directory, which no name or symbolic link can leave.
type folder struct{ root *os.Root }

// replace writes data to name atomically: name has either its old or its new content.
func (f folder) replace(name string, data []byte) error {
	if err := f.stage(name, data); err != nil {
		return err
	}
	return f.publish(name)
}

// stage writes data to the temporary file of name; it is on disk on return.
func (f folder) stage(name string, data []byte) error {
	if err := f.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := durable.CreateIn(f.root, durable.Temporary(name), data, 0o644); err != nil {
		return err
	}
	return f.syncDirs(name)
}

// publish renames the temporary file of name to name; this is on disk on return.
func (f folder) publish(name string) error {
	if err := f.root.Rename(durable.Temporary(name), name); err != nil {
		return err
	}
	return f.syncDirs(name)
}

// append appends data to name, which exists; it is on disk on return.
func (f folder) append(name string, data []byte) error {
	file, err := durable.OpenFileIn(f.root, name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = durable.Sync(file)
	}
	return errors.Join(err, file.Close())
}

// syncDirs syncs the folder of name and the sub-folders above it.
func (f folder) syncDirs(name string) error {
	for name != "." {
		name = path.Dir(name)
		if err := durable.SyncDirIn(f.root, name); err != nil {
			return fmt.Errorf("sync folder %q: %w", name, err)
		}
	}
	return nil
}

// maxFile limits a file of the folder, in bytes. The chain needs about 300 bytes per write.
const maxFile = durable.MaxDocument

// read returns the content of name, or nil without an error if there is no such file.
func (f folder) read(name string) ([]byte, error) {
	data, err := durable.ReadFileIn(f.root, name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// digest returns the SHA-256 and size of the regular file name.
func (f folder) digest(name string) (sum string, size int64, err error) {
	if err := f.regular(name); err != nil {
		return "", 0, err
	}
	file, err := durable.OpenIn(f.root, name)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() > maxFile {
		return "", 0, errors.Join(err, durable.ErrTooLarge)
	}
	return digest(io.LimitReader(file, maxFile+1)) // the file may grow meanwhile
}

// errNotRegular is returned for a folder, symbolic link or device in place of a file.
var errNotRegular = errors.New("is not a regular file")

// regular returns nil if name is a regular file, and fs.ErrNotExist if it does not exist.
func (f folder) regular(name string) error {
	info, err := f.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	return err
}

// files calls visit for everything below the folder that is not a folder, in name order.
func (f folder) files(visit func(name string) error) error {
	left := durable.MaxEntries
	return f.walk(".", &left, visit)
}

func (f folder) walk(dir string, left *int, visit func(name string) error) error {
	entries, err := durable.ReadDirIn(f.root, dir, *left)
	if err != nil {
		return err
	}
	*left -= len(entries)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			err = f.walk(name, left, visit)
		} else {
			err = visit(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
