package live

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// snapshotName is the file with the features in the state folder.
const snapshotName = "features.snapshot"

// Folder is a state folder, which this process owns. Empty means none.
type Folder string

func (f Folder) path() string { return filepath.Join(string(f), snapshotName) }

// Load returns the features that were saved last, or an empty book if there are none. It sets an unusable file aside under a
// new name and starts empty.
func (f Folder) Load(opts feature.BuildersOptions, logger *slog.Logger) (*feature.Builders, error) {
	if f == "" {
		return feature.NewBuilders(opts)
	}
	path := f.path()
	book, err := read(path, opts)
	switch {
	case err == nil:
		logger.Info("restored the features from a snapshot", "file", path, "symbols", len(book.Symbols()))
		return book, nil
	case errors.Is(err, fs.ErrNotExist):
		return feature.NewBuilders(opts)
	case errors.Is(err, feature.ErrSnapshot), errors.Is(err, feature.ErrSnapshotVersion):
		aside, asideErr := durable.SetAside(path, err)
		if asideErr != nil {
			return nil, asideErr
		}
		logger.Error("the snapshot of the features cannot be used: every symbol starts empty and needs a day of quotes",
			"error", err, "file", path, "set_aside_as", aside)
		return feature.NewBuilders(opts)
	case errors.Is(err, feature.ErrTooManySymbols):
		return nil, fmt.Errorf("%s: %w: raise --max-symbols, or remove the file to start empty", path, err)
	}
	return nil, fmt.Errorf("state folder: %w", err)
}

func read(path string, opts feature.BuildersOptions) (*feature.Builders, error) {
	file, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return feature.RestoreBuilders(bufio.NewReaderSize(file, 1<<16), opts)
}

// save writes the features. The file is always complete: either the old one or the new one.
func (f Folder) save(book *feature.Builders) error {
	return durable.Write(f.path(), 0o644, book.Snapshot)
}
