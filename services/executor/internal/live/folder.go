package live

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// snapshotName is the file of the features in the state folder.
const snapshotName = "features.snapshot"

// Folder is a state folder, which this process owns; empty is none.
type Folder string

func (f Folder) path() string { return filepath.Join(string(f), snapshotName) }

// Load returns the features as they were saved last, or an empty book when there are none. A file that cannot be used is
// set aside under a new name; what it held is learned anew from the market.
func (f Folder) Load(opts feature.BuildersOptions, logger *slog.Logger) (*feature.Builders, error) {
	if f == "" {
		return feature.NewBuilders(opts)
	}
	path := f.path()
	book, err := read(path, opts)
	switch {
	case err == nil:
		logger.Info("features go on from their snapshot", "file", path, "symbols", len(book.Symbols()))
		return book, nil
	case errors.Is(err, fs.ErrNotExist):
		return feature.NewBuilders(opts)
	case errors.Is(err, feature.ErrSnapshot), errors.Is(err, feature.ErrSnapshotVersion):
		aside, asideErr := durable.SetAside(path, time.Now())
		if asideErr != nil && !durable.Unsure(asideErr) {
			return nil, fmt.Errorf("%s: %w; and it cannot be set aside: %w", path, err, asideErr)
		}
		logger.Error("the snapshot of the features cannot be used: every symbol is learned anew, which takes a day of quotes",
			"error", err, "file", path, "set_aside_as", aside)
		return feature.NewBuilders(opts)
	case errors.Is(err, feature.ErrTooManySymbols):
		return nil, fmt.Errorf("%s: %w: raise --max-symbols, or remove the file to begin anew", path, err)
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

// save writes the features. Whatever happens meanwhile, the file of that name is the old one or the new one, and whole.
func (f Folder) save(book *feature.Builders) error {
	return durable.WriteFile(f.path(), 0o644, book.Snapshot)
}
