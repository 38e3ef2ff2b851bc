package durable

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A writer learns whether its file is locked.
func TestWriterKnowsOfTheLock(t *testing.T) {
	for name, want := range map[string]bool{"free": true, "taken": false} {
		path := filepath.Join(t.TempDir(), "x")
		open := func(flag int) (*os.File, error) {
			f, err := os.OpenFile(path, flag, 0o600)
			if err == nil && !want {
				other, err := os.Open(path)
				if err != nil {
					return nil, err
				}
				t.Cleanup(func() { _ = other.Close() })
				if err := Lock(other, 0); err != nil {
					return nil, err
				}
			}
			return f, err
		}
		f, err := create(open, func() error { return os.Remove(path) }, func(_ io.Writer, locked bool) error {
			if locked != want {
				t.Errorf("%s: locked is %v", name, locked)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
}
