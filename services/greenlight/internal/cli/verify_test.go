package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// Verification names anything in the evidence folder that is not a regular file of reasonable size, and does not hang on it.
func TestVerifyNamesWhatIsNoFile(t *testing.T) {
	fifo := func(t *testing.T, path string) {
		t.Helper()
		_ = os.Remove(path)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	giant := func(t *testing.T, path string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(50 << 30); err != nil {
			t.Skip("no sparse files here:", err)
		}
	}
	for name, spoil := range map[string]func(*testing.T, string){"a FIFO": fifo, "a giant": giant} {
		for _, file := range []string{"note.txt", "new.txt", "chain.jsonl", "chain.head", ".lock", "daily/new.json"} {
			t.Run(name+" for "+file, func(t *testing.T) {
				dir := t.TempDir()
				store, err := evidence.Open(dir, evidence.Options{})
				if err == nil {
					err = store.WriteFile("note.txt", []byte("one"))
				}
				if err == nil {
					err = store.Close()
				}
				if err == nil {
					err = os.MkdirAll(filepath.Join(dir, "daily"), 0o700)
				}
				if err != nil {
					t.Fatal(err)
				}
				spoil(t, filepath.Join(dir, file))
				var out bytes.Buffer
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				code := Main(ctx, []string{"evidence", "verify", "--evidence", dir}, nil, strings.NewReader(""), &out, &out)
				if code == console.ExitOK || !strings.Contains(out.String(), filepath.Base(file)) {
					t.Errorf("exit %d: %s", code, &out)
				}
			})
		}
	}
}
