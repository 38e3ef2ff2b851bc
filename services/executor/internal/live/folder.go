package live

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

const (
	// snapshotName is the file of the features in the state folder; temporaryName is it while it is written.
	snapshotName  = "features.snapshot"
	temporaryName = "." + snapshotName + ".tmp"
	lockName      = ".lock"
)

// Folder is a state folder, which belongs to one process.
type Folder struct {
	dir  string
	lock *os.File
}

// OpenFolder makes the folder if need be and takes possession of it. An empty dir is no folder: nil.
func OpenFolder(dir string) (*Folder, error) {
	if dir == "" {
		return nil, nil //nolint:nilnil // no folder is a folder that keeps nothing
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	// The lock ends with the process, however that ends.
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another executor has it: give each its own")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state folder %s: %w", dir, err), lock.Close())
	}
	return &Folder{dir: dir, lock: lock}, nil
}

// Close gives the folder up.
func (f *Folder) Close() error {
	if f == nil {
		return nil
	}
	return f.lock.Close()
}

// Load returns the features as they were saved last, or an empty book when there are none. A file that cannot be used is
// set aside under a new name; what it held is learned anew from the market.
func (f *Folder) Load(opts feature.BookOptions, logger *slog.Logger) (*feature.Book, error) {
	if f == nil {
		return feature.NewBook(opts)
	}
	path := filepath.Join(f.dir, snapshotName)
	book, err := read(path, opts)
	switch {
	case err == nil:
		logger.Info("features go on from their snapshot", "file", path, "symbols", len(book.Symbols()))
		return book, nil
	case errors.Is(err, fs.ErrNotExist):
		return feature.NewBook(opts)
	case errors.Is(err, feature.ErrSnapshot), errors.Is(err, feature.ErrSnapshotVersion):
		aside, asideErr := f.setAside(path)
		if asideErr != nil {
			return nil, fmt.Errorf("%s: %w; and it cannot be set aside: %w", path, err, asideErr)
		}
		logger.Error("the snapshot of the features cannot be used: every symbol is learned anew, which takes a day of quotes",
			"error", err, "file", path, "set_aside_as", aside)
		return feature.NewBook(opts)
	case errors.Is(err, feature.ErrTooManySymbols):
		return nil, fmt.Errorf("%s: %w: raise --max-symbols, or remove the file to begin anew", path, err)
	}
	return nil, fmt.Errorf("state folder: %w", err)
}

func read(path string, opts feature.BookOptions) (*feature.Book, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return feature.RestoreBook(bufio.NewReaderSize(file, 1<<16), opts)
}

// setAside gives the file a name that no file has.
func (f *Folder) setAside(path string) (string, error) {
	stamp := time.Now().UTC().Format("20060102T150405.000Z")
	aside := fmt.Sprintf("%s.unusable-%s", path, stamp)
	if _, err := os.Lstat(aside); err == nil {
		return "", fmt.Errorf("%s: %w", aside, fs.ErrExist)
	}
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	return aside, f.sync()
}

// save writes the features. Whatever happens meanwhile, the file of that name is the old one or the new one, and whole.
func (f *Folder) save(book *feature.Book) error {
	temporary := filepath.Join(f.dir, temporaryName)
	err := write(temporary, book)
	if err == nil {
		err = os.Rename(temporary, filepath.Join(f.dir, snapshotName))
	}
	if err != nil {
		_ = os.Remove(temporary) // the next one truncates it
		return err
	}
	return f.sync()
}

func write(path string, book *feature.Book) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<16)
	if err := book.Snapshot(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Sync()
}

func (f *Folder) sync() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
