package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

type number struct {
	Schema string `json:"schema"`
	N      int    `json:"n"`
}

func (n *number) validate() error {
	if n.N < 0 {
		return errors.New("n is negative")
	}
	return nil
}

// The bytes of a file are those that services of earlier versions wrote.
func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s := durable.State[number]{Path: path, Schema: "number/v1"}
	if _, err := s.Load((*number).validate); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if err := s.Save(&number{"number/v1", 7}); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, path), "{\n  \"schema\": \"number/v1\",\n  \"n\": 7\n}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, err := s.Load((*number).validate); err != nil || *got != (number{"number/v1", 7}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestUnusableState(t *testing.T) {
	for text, want := range map[string]string{
		`{"schema":"number/v2","n":7}`:   `schema "number/v2": want "number/v1"`,
		`{"schema":"number/v1","n":-1}`:  "n is negative",
		`{"schema":"number/v1","n":"7"}`: "cannot unmarshal",
		`{"schema":"number/v1",`:         "unexpected end",
		strings.Repeat(" ", 1<<20+1):     "file is too large",
	} {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := durable.State[number]{Path: path, Schema: "number/v1"}
		_, err := s.Load((*number).validate)
		var unusable *durable.UnusableError
		if !errors.As(err, &unusable) || !strings.Contains(unusable.Err.Error(), want) || read(t, unusable.Aside) != text {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		}
		// Until the next Save, every start finds it again.
		var again *durable.UnusableError
		if _, err := s.Load((*number).validate); !errors.As(err, &again) || again.Aside != unusable.Aside {
			t.Errorf("%.40q, loaded again: %v, want the same error", text, err)
		}
		if err := s.Save(&number{"number/v1", 7}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load((*number).validate); err != nil || got.N != 7 || read(t, unusable.Aside) != text {
			t.Errorf("%.40q, after a save: got %v, %v", text, got, err)
		}
	}
}

// What is not a file is not set aside.
func TestStateThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := durable.State[number]{Path: path, Schema: "number/v1"}.Load((*number).validate)
	if _, statErr := os.Stat(path); !errors.Is(err, durable.ErrNotRegular) || statErr != nil {
		t.Errorf("got %v, %v", err, statErr)
	}
}

// Files that are set aside in the same millisecond get different names.
func TestSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state.json")
		reason := errors.New("reason")
		seen := map[string]string{}
		for _, text := range []string{"one", "two", "three"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			aside, err := durable.SetAside(path, reason)
			if err != nil {
				t.Fatal(err)
			}
			seen[aside] = text
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("still there: %v", err)
			}
		}
		if len(seen) != 3 {
			t.Fatalf("got %v, want three names", seen)
		}
		for path, text := range seen {
			if got := read(t, path); got != text {
				t.Errorf("%s: got %q, want %q", path, got, text)
			}
		}
		if _, err := durable.SetAside(path, reason); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, reason) {
			t.Errorf("nothing to set aside: got %v", err)
		}
	})
}
