// Package durabletest makes writes of package durable fail in the test's process, and provides damaged files.
package durabletest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/internal/fault"
)

// BrokenCounters returns contents that no counter has written, by their defect.
func BrokenCounters() map[string][]byte {
	const page = 4096
	broken := map[string][]byte{"empty": {}, "1 byte": {1}, "7 bytes": make([]byte, 7), "9 bytes": make([]byte, 9), "a byte more": make([]byte, page+1), "1 MiB": make([]byte, 1<<20)}
	broken["garbage"] = bytes.Repeat([]byte("garbage!"), page/8)
	broken["too large"] = append([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), make([]byte, page-8)...)
	broken["more than a number"] = append(make([]byte, page-1), 1)
	return broken
}

// FailFolders makes every sync of dir, or of a folder below it, fail with EIO: a file is replaced, but a power cut may undo
// the replacement. The returned function ends the fault, as does the end of the test.
func FailFolders(t *testing.T, dir string) (repair func()) {
	return fail(t, dir, true)
}

// FailFiles makes every sync of a file below dir fail with EIO: nothing can be written.
func FailFiles(t *testing.T, dir string) (repair func()) {
	return fail(t, dir, false)
}

// Hang makes every sync of a file below dir wait, like a hung disk, until the returned function is called or the test ends.
func Hang(t *testing.T, dir string) (release func()) {
	t.Helper()
	dir = filepath.Clean(dir)
	hung := make(chan struct{})
	hook := func(f *os.File) error {
		_, err := f.Stat()
		if strings.HasPrefix(filepath.Clean(f.Name()), dir+"/") {
			<-hung
		}
		return err
	}
	if !fault.Sync.CompareAndSwap(nil, &hook) {
		t.Fatal("another test makes the disk fail at the same time: call its repair first")
	}
	release = sync.OnceFunc(func() {
		fault.Sync.CompareAndSwap(&hook, nil)
		close(hung)
	})
	t.Cleanup(release)
	return release
}

func fail(t *testing.T, dir string, folders bool) func() {
	t.Helper()
	dir = filepath.Clean(dir)
	hook := func(f *os.File) error {
		name := filepath.Clean(f.Name())
		info, err := f.Stat()
		if err != nil || info.IsDir() != folders || name != dir && !strings.HasPrefix(name, dir+"/") {
			return err
		}
		return &os.PathError{Op: "sync", Path: f.Name(), Err: syscall.EIO}
	}
	if !fault.Sync.CompareAndSwap(nil, &hook) {
		t.Fatal("another test makes the disk fail at the same time: call its repair first")
	}
	repair := func() { fault.Sync.CompareAndSwap(&hook, nil) }
	t.Cleanup(repair)
	return repair
}
