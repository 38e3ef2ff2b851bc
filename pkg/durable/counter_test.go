package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

func TestCounterContinues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter")
	for want := uint64(0); want < 3; want++ {
		c, err := durable.OpenCounter(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Load(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
		c.Add()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCounterRefusesAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.OpenCounter(path); err == nil {
		t.Error("want an error")
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "text" {
		t.Errorf("the file has %q, %v", raw, err)
	}
}
