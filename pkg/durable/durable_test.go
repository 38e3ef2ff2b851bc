package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

func content(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, text := range []string{"first", "second and longer", ""} {
		if err := durable.WriteFile(path, 0o600, content(text)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, %v", info.Mode(), err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestWriteFileKeepsTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := durable.WriteFile(path, 0o644, content("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := durable.WriteFile(path, 0o644, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) || read(t, path) != "old" || len(files(t, dir)) != 1 {
		t.Errorf("got %v, %q, %v; want the error, the old file and nothing else", err, read(t, path), files(t, dir))
	}
	// A leftover of a kill does not matter.
	if err := os.WriteFile(filepath.Join(dir, ".state.json.tmp"), []byte("left behind by a kill, and longer"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, 0o644, content("new")); err != nil || read(t, path) != "new" || len(files(t, dir)) != 1 {
		t.Errorf("got %v, %q, %v", err, read(t, path), files(t, dir))
	}
	if err := durable.WriteFile(filepath.Join(dir, "none", "state.json"), 0o644, content("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
}

func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	seen := map[string]string{}
	for _, text := range []string{"one", "two", "three"} {
		if err := durable.WriteFile(path, 0o644, content(text)); err != nil {
			t.Fatal(err)
		}
		aside, err := durable.SetAside(path, now)
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
	if _, err := durable.SetAside(path, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing to set aside: got %v", err)
	}
}

func TestOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	owner, err := durable.Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Own(dir); !errors.Is(err, durable.ErrOwned) {
		t.Errorf("taken: got %v, want %v", err, durable.ErrOwned)
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.Own(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}
