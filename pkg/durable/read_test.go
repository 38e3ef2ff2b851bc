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
