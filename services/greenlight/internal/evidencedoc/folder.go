// Package evidencedoc reads an evidence folder as a whole: whether its verdicts follow from its figures, and what a
// reader should know of it, in one document.
package evidencedoc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// folder is an evidence folder in memory: what is judged is what was read.
type folder struct {
	dir string
	// files are all but the store's own, in the order of their names.
	files []*file
	named map[string]*file
}

// file is one of them.
type file struct {
	name string
	raw  []byte
	// header is that of a JSON file.
	header evidence.Header
}

// open reads the folder.
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

// documents are the JSON files.
func (f *folder) documents() []*file {
	var all []*file
	for _, one := range f.files {
		if path.Ext(one.name) == ".json" {
			all = append(all, one)
		}
	}
	return all
}

// match are the files of a pattern, in the order of their names.
func (f *folder) match(pattern string) []*file {
	var found []*file
	for _, one := range f.files {
		if ok, err := path.Match(pattern, one.name); ok && err == nil {
			found = append(found, one)
		}
	}
	return found
}

// current is the file of an input, if it is in the folder with the very content that the input has.
func (f *folder) current(in evidence.Input) *file {
	one := f.named[in.Path]
	if one == nil {
		return nil
	}
	sum := sha256.Sum256(one.raw)
	if hex.EncodeToString(sum[:]) != in.SHA256 {
		return nil
	}
	return one
}

// as reads the body of a file.
func as[T any](f *file) (*T, error) {
	var body T
	if err := json.Unmarshal(f.raw, &body); err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return &body, nil
}
