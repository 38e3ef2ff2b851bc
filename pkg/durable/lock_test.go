package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

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

// Readers exclude only writers, and a lock waits for the given time.
func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		take := func(lock func(*os.File, time.Duration) error, wait time.Duration) (*os.File, error) {
			f, err := durable.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f, lock(f, wait)
		}
		first, err := take(durable.RLock, 0)
		if err != nil {
			t.Fatal(err)
		}
		second, err := take(durable.RLock, 0)
		if err != nil {
			t.Errorf("two readers: %v", err)
		}
		start := time.Now()
		if _, err := take(durable.Lock, time.Second); !errors.Is(err, durable.ErrOwned) || time.Since(start) != time.Second {
			t.Errorf("a writer during reads: got %v after %s", err, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { _ = errors.Join(first.Close(), second.Close()) })
		if _, err := take(durable.Lock, time.Minute); err != nil {
			t.Errorf("a writer after the readers: %v", err)
		}
		if _, err := take(durable.RLock, -1); !errors.Is(err, durable.ErrOwned) {
			t.Errorf("a reader during the writer: got %v", err)
		}
	})
}
