package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

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
		if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
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
	if err := durable.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := durable.Write(path, 0o644, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) || read(t, path) != "old" || len(files(t, dir)) != 1 {
		t.Errorf("got %v, %q, %v; want the error, the old file and nothing else", err, read(t, path), files(t, dir))
	}
	// A temporary file left by a kill does not matter.
	if err := os.WriteFile(filepath.Join(dir, ".state.json.tmp"), []byte("left behind by a kill, and longer"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("new"), 0o644); err != nil || read(t, path) != "new" || len(files(t, dir)) != 1 {
		t.Errorf("got %v, %q, %v", err, read(t, path), files(t, dir))
	}
	if err := durable.WriteFile(filepath.Join(dir, "none", "state.json"), []byte("x"), 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
}

// WriteFileIn and CreateIn replace a file of a root, and leave nothing else.
func TestWriteIn(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	path := filepath.Join(dir, "state.json")
	for name, write := range map[string]func(*os.Root, string, []byte, fs.FileMode) error{"WriteFileIn": durable.WriteFileIn, "CreateIn": durable.CreateIn} {
		for _, text := range []string{name + " and longer", name} {
			if err := write(root, "state.json", []byte(text), 0o640); err != nil || read(t, path) != text || len(files(t, dir)) != 1 {
				t.Errorf("%s: got %v, %q in %v; want %q", name, err, read(t, path), files(t, dir), text)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		if err := write(root, "none/state.json", nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: no folder: got %v", name, err)
		}
	}
}

// Only the temporary file of a writer that is gone is removed.
func TestRemoveAbandoned(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := durable.Write(path, 0o644, func(io.Writer) error { return durable.RemoveAbandoned(durable.Temporary(path)) }); err != nil || len(files(t, dir)) != 1 {
		t.Errorf("the writer is alive: got %v, %v", err, files(t, dir))
	}
	if err := os.WriteFile(durable.Temporary(path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.RemoveAbandoned(durable.Temporary(path)); err != nil || len(files(t, dir)) != 1 {
		t.Errorf("the writer was killed: got %v, %v", err, files(t, dir))
	}
}
