package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// faulty is a file whose steps fail on request: a full disk writes a part.
type faulty struct {
	*os.File

	write, sync, truncate error
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.write != nil {
		n, err := f.File.Write(p[:len(p)/2])
		return n, errors.Join(err, f.write)
	}
	return f.File.Write(p)
}

func (f *faulty) Sync() error { return errors.Join(f.sync, f.File.Sync()) }

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.File.Truncate(size)
}

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte("one\ntw"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a, err := AppendTo(file, 4)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{File: file}
	a.file = f
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
		err := a.Append([]byte(step.line))
		got, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if (err == nil) != step.whole || (err != nil && !errors.Is(err, fault)) || string(got) != step.want {
			t.Errorf("step %d: got %q, %v; want %q", i, got, err, step.want)
		}
	}
}
