package durable_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

// "Not written" and "written, but a power cut may undo it" are distinct errors that callers must not confuse.
func TestFailedWriteReportsWhetherItTookEffect(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := durable.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	repair := durabletest.FailFiles(t, dir)
	err := durable.WriteFile(path, []byte("new"), 0o644)
	if !errors.Is(err, syscall.EIO) || durable.Unsure(err) || read(t, path) != "old" {
		t.Errorf("the file cannot be synced: got %v, %q", err, read(t, path))
	}
	repair()
	repair = durabletest.FailFolders(t, dir)
	err = durable.WriteFile(path, []byte("new"), 0o644)
	if !errors.Is(err, syscall.EIO) || !durable.Unsure(err) || read(t, path) != "new" {
		t.Errorf("the folder cannot be synced: got %v, %q", err, read(t, path))
	}
	repair()

	tail, err := durable.OpenLines(path, 100) // "new" is not a line
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	repair = durabletest.FailFiles(t, dir)
	if err := tail.Append([]byte("one\n")); !durable.Unsure(err) {
		t.Errorf("an addition that can be neither synced nor taken back: got %v", err)
	}
	repair()
	if err := tail.Append([]byte("two\n")); err != nil || read(t, path) != "two\n" {
		t.Errorf("after the repair: %v, %q", err, read(t, path))
	}
}
