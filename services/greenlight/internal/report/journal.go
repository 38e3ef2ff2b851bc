// Package report sums up what was seen of the services over UTC days and ISO weeks. Every look at them is a [Sample] in a
// [Journal]; what happened in a period is the sum of the differences between one sample and the next.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// journalName is the journal in a state folder.
const journalName = "samples.jsonl"

// Journal is a file of samples, one JSON line each, that only ever grows. One process at a time appends to it.
type Journal struct {
	file *os.File
}

// OpenJournal opens the journal of a state folder to append to it, and makes it if there is none. A last line that was
// cut short by a kill is removed: the sample was never promised.
func OpenJournal(dir string) (*Journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(cutTorn(file), durable.SyncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), file.Close())
	}
	return &Journal{file}, nil
}

// cutTorn removes what follows the last line end.
func cutTorn(file *os.File) error {
	raw, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	whole := bytes.LastIndexByte(raw, '\n') + 1
	if whole == len(raw) {
		return nil
	}
	return errors.Join(file.Truncate(int64(whole)), file.Sync())
}

// Append adds a sample, which is on disk when it returns.
func (j *Journal) Append(s Sample) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// ReadJournal reads the samples of a state folder in their order; a line that is being written is left out. A folder
// without a journal is an error, and so is a line that is not a sample, which names it.
func ReadJournal(dir string) ([]Sample, error) {
	path := filepath.Join(dir, journalName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var samples []Sample
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(raw, []byte{'\n'})
		if !whole {
			return samples, nil
		}
		var s Sample
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("%s line %d is not a sample: %w", path, n, err)
		}
		samples, raw = append(samples, s), rest
	}
}
