package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

// "Not written" and "written, but a power cut may undo it" are distinct errors that callers must not confuse.
func TestFailedWriteReportsWhetherItTookEffect(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := durable.WriteFile(path, 0o644, content("old")); err != nil {
		t.Fatal(err)
	}
	repair := durabletest.FailFiles(t, dir)
	err := durable.WriteFile(path, 0o644, content("new"))
	if !errors.Is(err, syscall.EIO) || durable.Unsure(err) || read(t, path) != "old" {
		t.Errorf("the file cannot be synced: got %v, %q", err, read(t, path))
	}
	repair()
	repair = durabletest.FailFolders(t, dir)
	err = durable.WriteFile(path, 0o644, content("new"))
	if !errors.Is(err, syscall.EIO) || !durable.Unsure(err) || read(t, path) != "new" {
		t.Errorf("the folder cannot be synced: got %v, %q", err, read(t, path))
	}
	aside, err := durable.SetAside(path, time.Now())
	if !durable.Unsure(err) || read(t, aside) != "new" {
		t.Errorf("set aside: got %v", err)
	}
	repair()

	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tail, err := durable.AppendTo(file, 0)
	if err != nil {
		t.Fatal(err)
	}
	repair = durabletest.FailFiles(t, dir)
	if err := tail.Append([]byte("one\n")); !durable.Unsure(err) {
		t.Errorf("an addition that can be neither synced nor taken back: got %v", err)
	}
	repair()
	if err := tail.Append([]byte("two\n")); err != nil || read(t, path) != "two\n" {
		t.Errorf("after the repair: %v, %q", err, read(t, path))
	}
}
