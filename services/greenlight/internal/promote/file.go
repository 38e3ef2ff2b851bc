package promote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// file is a JSON file of the evidence folder. It is read once, so the digest matches the judged bytes.
type file struct {
	evidence.Input

	header evidence.Header
	raw    []byte
}

// errMissing is the error of a missing file.
var errMissing = errors.New("not there")

// maxFile bounds a file of evidence.
const maxFile = 256 << 20

// readFile reads a file of the folder. If the content is invalid, it returns both the file and an error. If the file is
// missing, the error is [errMissing] and names the command that writes it.
func readFile(folder, name, writer string) (*file, error) {
	raw, err := durable.ReadFile(filepath.Join(folder, filepath.FromSlash(name)), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is %w; %s writes it", name, errMissing, writer)
	}
	if err != nil {
		return nil, err
	}
	f := &file{Input: evidence.Input{Path: name, SHA256: evidence.Sum(raw)}, raw: raw}
	if err := f.decode(&f.header); err != nil {
		return f, err
	}
	if !f.header.Source.Valid() {
		return f, fmt.Errorf("%s: source %q is not live, replay or simulated", name, f.header.Source)
	}
	return f, nil
}

func (f *file) decode(into any) error {
	if err := json.Unmarshal(f.raw, into); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

// as decodes a file of the schema, or of one of its older versions.
func (f *file) as(into any, schema string, older ...string) error {
	if f.header.Schema != schema && !slices.Contains(older, f.header.Schema) {
		return fmt.Errorf("%s: schema %q: want %q", f.Path, f.header.Schema, schema)
	}
	return f.decode(into)
}
