package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "full": "12345678", "over": "123456789"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("full", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fifo", filepath.Join(dir, "link-to-fifo")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, tt := range []struct {
		name, content string
		err           error
	}{
		{"empty", "", nil},
		{"full", "12345678", nil},
		{"link", "12345678", nil},
		{"over", "", durable.ErrTooLarge},
		{"fifo", "", durable.ErrNotRegular},
		{"link-to-fifo", "", durable.ErrNotRegular},
		{".", "", durable.ErrNotRegular},
		{"absent", "", fs.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := durable.ReadFile(filepath.Join(dir, tt.name), 8)
			if string(got) != tt.content || !errors.Is(err, tt.err) {
				t.Errorf("ReadFile: got %q, %v; want %q, %v", got, err, tt.content, tt.err)
			}
			got, err = durable.ReadFileIn(root, tt.name, 8)
			if string(got) != tt.content || !errors.Is(err, tt.err) {
				t.Errorf("ReadFileIn: got %q, %v; want %q, %v", got, err, tt.content, tt.err)
			}
		})
	}
	if _, err := durable.ReadFile("/dev/zero", 8); !errors.Is(err, durable.ErrNotRegular) {
		t.Errorf("/dev/zero: got %v, want %v", err, durable.ErrNotRegular)
	}
}

// An empty sparse file of 50 GB is refused for its size, before it is read.
func TestReadFileOfAGiantSparseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "giant")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(50 << 30); err != nil {
		t.Skip("no sparse files here:", err)
	}
	if _, err := durable.ReadFile(path, 64<<20); !errors.Is(err, durable.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, durable.ErrTooLarge)
	}
}

func TestOpenFileForWritingDoesNotWaitForAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND | os.O_CREATE} {
		if _, err := durable.OpenFile(path, flag, 0o600); !errors.Is(err, durable.ErrNotRegular) {
			t.Errorf("flags %#x: got %v, want %v", flag, err, durable.ErrNotRegular)
		}
	}
}

// A FIFO in place of a folder is an error too.
func TestOpenFolderThatIsAFIFO(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := durable.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, open := range map[string]func() error{
		"OpenRoot":   func() error { _, err := durable.OpenRoot(path); return err },
		"OpenRootIn": func() error { _, err := durable.OpenRootIn(root, "fifo"); return err },
		"OpenDir":    func() error { _, err := durable.OpenDir(path); return err },
		"OpenDirIn":  func() error { _, err := durable.OpenDirIn(root, "fifo"); return err },
		"SyncDir":    func() error { return durable.SyncDir(path) },
		"Own":        func() error { _, err := durable.Own(path); return err },
	} {
		if err := open(); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: got %v, want %v", name, err, syscall.ENOTDIR)
		}
	}
	for name, open := range map[string]func() error{
		"OpenRoot":   func() error { r, err := durable.OpenRoot(dir); return errors.Join(err, r.Close()) },
		"OpenRootIn": func() error { r, err := durable.OpenRootIn(root, "."); return errors.Join(err, r.Close()) },
		"OpenDirIn":  func() error { f, err := durable.OpenDirIn(root, "."); return errors.Join(err, f.Close()) },
	} {
		if err := open(); err != nil {
			t.Errorf("%s of a folder: %v", name, err)
		}
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "c", "a"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "a", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, tt := range []struct {
		name  string
		limit int
		want  int
		err   error
	}{
		{".", 3, 3, nil},
		{".", 2, 0, durable.ErrTooLarge},
		{"a", 3, 1, nil},
		{"b", 0, 0, nil},
		{"a/fifo", 3, 0, syscall.ENOTDIR},
		{"absent", 3, 0, fs.ErrNotExist},
	} {
		for kind, read := range map[string]func() ([]fs.DirEntry, error){
			"ReadDir":   func() ([]fs.DirEntry, error) { return durable.ReadDir(filepath.Join(dir, tt.name), tt.limit) },
			"ReadDirIn": func() ([]fs.DirEntry, error) { return durable.ReadDirIn(root, tt.name, tt.limit) },
		} {
			got, err := read()
			if len(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s of %s, limit %d: got %v, %v; want %d, %v", kind, tt.name, tt.limit, got, err, tt.want, tt.err)
			}
			if len(got) == 3 && (got[0].Name() != "a" || got[2].Name() != "c") {
				t.Errorf("order: %v", got)
			}
		}
	}
}
