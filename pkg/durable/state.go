package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// State is a small JSON file that a service continues from after a restart. T has a field "schema".
type State[T any] struct {
	Path   string
	Schema string
}

// maxState limits the file of a [State], in bytes: the 1,000 symbols of a gate, escaped, are 400 kB.
const maxState = 1 << 20

// Load reads the file as [Restore] does, but leaves an unusable file in place too, until the next Save: after a crash in between, the
// next start must not look like a first one.
func (s State[T]) Load(validate func(*T) error) (*T, error) {
	var v *T
	err := restore(s.Path, maxState, linkAside, func(raw []byte) (err error) {
		if v, err = s.Parse(raw); err != nil {
			return err
		}
		return validate(v)
	})
	return v, err
}

// Parse decodes the content of a file.
func (s State[T]) Parse(raw []byte) (*T, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	if head.Schema != s.Schema {
		return nil, fmt.Errorf("schema %q: want %q", head.Schema, s.Schema)
	}
	v := new(T)
	return v, json.Unmarshal(raw, v)
}

// Save writes the file.
func (s State[T]) Save(v *T) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(s.Path, append(raw, '\n'), 0o644)
}

// UnusableError is the error of a file with unusable content. It has another name, so that the content is not lost when a new file
// is written.
type UnusableError struct {
	// Aside is its new name.
	Aside string
	Err   error
}

// Error implements error.
func (e *UnusableError) Error() string { return fmt.Sprintf("%v; set aside as %s", e.Err, e.Aside) }

// Unwrap returns the reason.
func (e *UnusableError) Unwrap() error { return e.Err }

// Restore reads a file of at most limit bytes. If the file is larger or use returns an error, the file is set aside, and the
// error is an [*UnusableError]. Without a file it is [fs.ErrNotExist].
func Restore(path string, limit int64, use func(raw []byte) error) error {
	return restore(path, limit, SetAside, use)
}

func restore(path string, limit int64, setAside func(path string, reason error) (string, error), use func(raw []byte) error) error {
	raw, err := ReadFile(path, limit)
	if err == nil {
		err = use(raw)
	} else if !errors.Is(err, ErrTooLarge) {
		return err
	}
	if err == nil {
		return nil
	}
	aside, asideErr := setAside(path, err)
	if asideErr != nil {
		return asideErr
	}
	return &UnusableError{Aside: aside, Err: err}
}

// SetAside renames a file that is unusable for that reason, and returns the new name. A power cut may undo the rename until
// the next file of the folder is written.
func SetAside(path string, reason error) (aside string, err error) {
	if aside, err = freeName(path); err == nil {
		err = os.Rename(path, aside)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w; and it cannot be set aside: %w", path, reason, err)
	}
	return aside, nil
}

// linkAside gives an unusable file a second name, which it keeps when the next file is written. It has one already if an earlier
// process did not write. Where a file cannot have two names, it is renamed.
func linkAside(path string, reason error) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	entries, err := ReadDir(filepath.Dir(path), MaxEntries)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+asideMark) {
			if other, err := e.Info(); err == nil && os.SameFile(info, other) {
				return filepath.Join(filepath.Dir(path), e.Name()), nil
			}
		}
	}
	aside, err := freeName(path)
	if err == nil && os.Link(path, aside) == nil {
		return aside, nil
	}
	return SetAside(path, reason)
}

// asideMark follows the name of a file in the name under which it is set aside.
const asideMark = ".unusable-"

// freeName returns an unused name for a file that is set aside now.
func freeName(path string) (string, error) {
	stamp := time.Now().UTC().Format("20060102T150405.000Z")
	for n := range 100 {
		aside := path + asideMark + stamp
		if n > 0 {
			aside += fmt.Sprintf("-%d", n+1)
		}
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fs.ErrExist
}
