package status

import (
	"encoding/json"
	"io/fs"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// newestCanary is the run that began last, dry runs included; nil when there is none. A file that cannot be read is the
// answer if it is the only one; otherwise evidence that does not verify says so.
func newestCanary(folder fs.FS) *Canary {
	names, err := fs.Glob(folder, "canary_*.json")
	if err != nil {
		return &Canary{Error: err.Error()}
	}
	var newest *Canary
	for _, name := range names {
		if name == "canary_preflight.json" {
			continue
		}
		c := readCanary(folder, name)
		if newest == nil || c.StartTime.After(newest.StartTime) {
			newest = c
		}
	}
	return newest
}

// read returns the content of a regular file of bounded size: opening a FIFO would block.
func read(folder fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(folder, name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: durable.ErrNotRegular}
	case info.Size() > durable.MaxDocument:
		return nil, &fs.PathError{Op: "read", Path: name, Err: durable.ErrTooLarge}
	}
	return fs.ReadFile(folder, name)
}

func readCanary(folder fs.FS, name string) *Canary {
	var r struct {
		evidence.Header
		canary.Record
	}
	raw, err := read(folder, name)
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return &Canary{File: name, Error: err.Error()}
	}
	return &Canary{
		File: name, Source: r.Source, Model: r.Model, StartTime: r.StartTime, Decision: string(r.Decision), Reason: r.Reason,
	}
}
