// Package evidencedoc reads an evidence folder as a whole. It checks that the verdicts follow from the figures, and
// renders the folder as one document.
package evidencedoc

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// folder is an evidence folder in memory. Every file is read once, so that all checks see the same bytes.
type folder struct {
	dir string
	// files are sorted by name, without the store's own files.
	files []*file
	named map[string]*file
}

// file is one file of the folder.
type file struct {
	name string
	raw  []byte
	// header is zero unless the file is JSON.
	header evidence.Header
}

// open reads the whole folder.
func open(dir string) (*folder, error) {
	f := &folder{dir: dir, named: map[string]*file{}}
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		if base := filepath.Base(name); strings.HasPrefix(base, ".") || evidence.Litter(base) != "" || name == "chain.jsonl" || name == "chain.head" {
			return nil
		}
		one := &file{name: filepath.ToSlash(name)}
		if one.raw, err = durable.ReadFile(at, durable.MaxDocument); err != nil {
			return err
		}
		if path.Ext(one.name) == ".json" {
			if err := json.Unmarshal(one.raw, &one.header); err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
		}
		f.files, f.named[one.name] = append(f.files, one), one
		return nil
	})
	return f, err
}

// documents returns the JSON files.
func (f *folder) documents() []*file {
	var all []*file
	for _, one := range f.files {
		if path.Ext(one.name) == ".json" {
			all = append(all, one)
		}
	}
	return all
}

// match returns the files whose names match the pattern, sorted by name.
func (f *folder) match(pattern string) []*file {
	var found []*file
	for _, one := range f.files {
		if ok, err := path.Match(pattern, one.name); ok && err == nil {
			found = append(found, one)
		}
	}
	return found
}

// current returns the file of an input. It returns nil if the folder has no such file, or one with different content.
func (f *folder) current(in evidence.Input) *file {
	one := f.named[in.Path]
	if one == nil {
		return nil
	}
	if evidence.Sum(one.raw) != in.SHA256 {
		return nil
	}
	return one
}

// as decodes the body of a file.
func as[T any](f *file) (*T, error) {
	var body T
	if err := json.Unmarshal(f.raw, &body); err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return &body, nil
}

// named returns the file with the name and its body; both are nil if there is none.
func named[T any](f *folder, name string) (*file, *T, error) {
	one := f.named[name]
	if one == nil {
		return nil, nil, nil
	}
	body, err := as[T](one)
	return one, body, err
}
