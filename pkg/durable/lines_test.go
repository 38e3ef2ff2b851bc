package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// faulty is a file whose operations fail on request: a full disk writes a part.
type faulty struct {
	onDisk

	write, sync, truncate error
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.write != nil {
		n, err := f.onDisk.Write(p[:len(p)/2])
		return n, errors.Join(err, f.write)
	}
	return f.onDisk.Write(p)
}

func (f *faulty) Sync() error { return errors.Join(f.sync, f.onDisk.Sync()) }

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.onDisk.Truncate(size)
}

// Whole lines are read, however the file ends. OpenLines removes only an unterminated last line.
func TestLines(t *testing.T) {
	for text, want := range map[string]struct {
		lines []string
		kept  string
	}{
		"":               {nil, ""},
		"on":             {nil, ""},
		"one\n":          {[]string{"one"}, "one\n"},
		"one\n\ntwo\nth": {[]string{"one", "", "two"}, "one\n\ntwo\n"},
	} {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line, err := range ReadLines(path, 100) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(line))
		}
		l, err := OpenLines(path, 100)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(path)
		if err := errors.Join(err, l.Close()); err != nil || !slices.Equal(lines, want.lines) || string(kept) != want.kept {
			t.Errorf("%q: got lines %q and left %q, %v; want %q and %q", text, lines, kept, err, want.lines, want.kept)
		}
	}
}

// A file without line ends is not changed: it is another kind of file. A line over the limit is an error that names it.
func TestLinesRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	other := strings.Repeat("x", 101)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLines(path, 100); err == nil || !strings.Contains(err.Error(), "no line ends") {
		t.Errorf("open: got %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != other {
		t.Errorf("the file was changed to %q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("one\n"+other+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	for line, err := range ReadLines(path, 100) {
		if n++; n == 1 && (err != nil || string(line) != "one") || n == 2 && (err == nil || !strings.Contains(err.Error(), "journal line 2: ")) || n > 2 {
			t.Errorf("%d: got %q, %v", n, line, err)
		}
	}
	for _, err := range ReadLines(path+"-absent", 100) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no file: got %v", err)
		}
	}
}

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte("one\ntw"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLines(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := &faulty{onDisk: l.file.(onDisk)}
	l.file = f
	fault := errors.New("no space left")
	for i, step := range []struct {
		faults faulty
		line   string
		whole  bool
		want   string
	}{
		{faulty{}, "two\n", true, "one\ntwo\n"},
		{faulty{write: fault}, "three\n", false, "one\ntwo\n"},
		{faulty{write: fault}, "three\n", false, "one\ntwo\n"},
		{faulty{}, "four\n", true, "one\ntwo\nfour\n"},
		{faulty{sync: fault}, "five\n", false, "one\ntwo\nfour\n"},
		{faulty{}, "five\n", true, "one\ntwo\nfour\nfive\n"},
		{faulty{write: fault, truncate: fault}, "six six\n", false, "one\ntwo\nfour\nfive\nsix "},
		{faulty{truncate: fault}, "seven\n", false, "one\ntwo\nfour\nfive\nsix "},
		{faulty{}, "eight\n", true, "one\ntwo\nfour\nfive\neight\n"},
	} {
		f.write, f.sync, f.truncate = step.faults.write, step.faults.sync, step.faults.truncate
		err := l.Append([]byte(step.line))
		got, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if (err == nil) != step.whole || (err != nil && !errors.Is(err, fault)) || string(got) != step.want {
			t.Errorf("step %d: got %q, %v; want %q", i, got, err, step.want)
		}
	}
}
