package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

func TestCounterContinues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter")
	if _, err := durable.OpenCounter(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	c, err := durable.CreateCounter(path, 7)
	for want := uint64(7); want < 10; want++ {
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Load(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
		c.Add()
		c.Raise(5) // it has more
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c, err = durable.OpenCounter(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Raise(100)
	if got := c.Load(); got != 100 {
		t.Errorf("raised to %d, want 100", got)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A file that is not a counter's is set aside unchanged, and OpenCounter fails.
func TestCounterRefusesAnotherFile(t *testing.T) {
	for name, content := range durabletest.BrokenCounters() {
		path := filepath.Join(t.TempDir(), "counter")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := durable.OpenCounter(path)
		var unusable *durable.UnusableError
		if !errors.As(err, &unusable) {
			t.Errorf("%s: %v, want an UnusableError", name, err)
			continue
		}
		if raw, err := os.ReadFile(unusable.Aside); err != nil || !bytes.Equal(raw, content) {
			t.Errorf("%s: set aside with %d bytes of %d, %v", name, len(raw), len(content), err)
		}
		if _, err := durable.OpenCounter(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: after it was set aside: %v", name, err)
		}
	}
}
