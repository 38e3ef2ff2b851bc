// Package journal keeps the events of a run in a file, so that a run that was killed can be continued or reported. Package
// canary and package gatekeeper use it.
package journal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	// Name is the name of the file in the folder of its run.
	Name = "journal.jsonl"
	// maxSize bounds the file.
	maxSize = 256 << 20
)

// NewRun returns the id of a run that begins now. Ids of later runs with the same prefix sort after it.
func NewRun(prefix string) string {
	return prefix + time.Now().UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:6])
}

// Runs returns the ids of the runs in a folder, oldest first. It omits runs without a journal, which have done nothing.
func Runs(folder string) ([]string, error) {
	entries, err := durable.ReadDir(folder, durable.MaxEntries)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if _, err := os.Lstat(filepath.Join(folder, e.Name(), Name)); e.IsDir() && !errors.Is(err, fs.ErrNotExist) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids) // they begin with their time
	return ids, nil
}

// Head is the first entry of a journal.
type Head struct {
	// Schema names the kind of run.
	Schema string `json:"schema"`
	Run    string `json:"run"`
	// PlanSHA256 is the digest of the run's plan.
	PlanSHA256 string `json:"plan_sha256"`
	// Confirmation is the phrase that started the run; empty in a dry run.
	Confirmation string `json:"confirmation"`
}

// line is one line of a journal.
type line struct {
	// Seq counts the lines from 1.
	Seq int `json:"seq"`
	// Sum covers the previous line's sum and the entry. It reveals a changed, lost or moved line.
	Sum string `json:"sum"`
	// Entry is the head in the first line, then an event.
	Entry json.RawMessage `json:"entry"`
}

// sumOf returns the first 64 bits of the SHA-256 in hexadecimal digits. It guards against accidents only.
func sumOf(before string, entry []byte) string {
	sum := sha256.Sum256(append([]byte(before), entry...))
	return hex.EncodeToString(sum[:8])
}

// Journal is a file of entries. Each is on disk before the next is added.
type Journal struct {
	lines *durable.Lines
	last  line
}

// Create creates a journal with its head in one step. The file must not exist. A run without a journal never started.
func Create(path string, h Head) (*Journal, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, fmt.Errorf("journal %s: %w", path, fs.ErrExist))
	}
	_, text, err := line{}.next(h)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, text, 0o644); err != nil {
		return nil, err
	}
	j, _, _, err := Open[json.RawMessage](path, h.Schema)
	return j, err
}

// Open reads a journal of the schema and opens it for appending after its last whole line. E is the type of its events.
func Open[E any](path, schema string) (*Journal, Head, []E, error) {
	h, events, last, err := read[E](path, schema)
	if err != nil {
		return nil, Head{}, nil, err
	}
	lines, err := durable.OpenLines(path, maxSize)
	if err != nil {
		return nil, Head{}, nil, err
	}
	return &Journal{lines, last}, h, events, nil
}

// Read returns the content of a journal of the schema. An unterminated line at its end was being written when the machine or
// the controller went down. Any other damage is an error that names the line.
func Read[E any](path, schema string) (Head, []E, error) {
	h, events, _, err := read[E](path, schema)
	return h, events, err
}

// read is [Read], and also returns the last whole line.
func read[E any](path, schema string) (h Head, events []E, last line, err error) {
	raw, err := durable.ReadFile(path, maxSize)
	if err != nil {
		return h, nil, last, err
	}
	fail := func(err error) error {
		return fmt.Errorf("journal %s, line %d: %w", path, last.Seq+1, err)
	}
	for text := range bytes.Lines(raw) {
		if text[len(text)-1] != '\n' {
			break
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return h, nil, last, fail(err)
		}
		if l.Seq != last.Seq+1 || l.Sum != sumOf(last.Sum, l.Entry) {
			return h, nil, last, fail(errors.New("it was changed after it was written"))
		}
		if l.Seq == 1 {
			err = json.Unmarshal(l.Entry, &h)
			if err == nil && h.Schema != schema {
				err = fmt.Errorf("schema %q: want %q", h.Schema, schema)
			}
		} else {
			var e E
			err = json.Unmarshal(l.Entry, &e)
			events = append(events, e)
		}
		if err != nil {
			return h, nil, last, fail(err)
		}
		last = l
	}
	if last.Seq == 0 {
		return h, nil, last, fail(errors.New("nothing was written"))
	}
	return h, events, last, nil
}

// next returns the line of the next entry, and its JSON.
func (l line) next(entry any) (line, []byte, error) {
	raw, err := json.Marshal(entry)
	if err != nil {
		return line{}, nil, err
	}
	n := line{Seq: l.Seq + 1, Sum: sumOf(l.Sum, raw), Entry: raw}
	text, err := json.Marshal(n)
	return n, append(text, '\n'), err
}

// Add writes an entry. When it returns, the entry is on disk; after an error, it is not in the file.
func (j *Journal) Add(entry any) error {
	next, text, err := j.last.next(entry)
	if err != nil {
		return err
	}
	if err := j.lines.Append(text); err != nil {
		return err
	}
	j.last = next
	return nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.lines.Close() }
