package cli

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// Names from files are printed without their control characters, by every command.
func TestNamesOfFilesCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "\x1b]0;owned\a\x1b[2J\u009b1A\u202egnp\r"
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	columns := write("columns.csv", "timestamp,open,high,low,close,"+evil+"owned\n1700000000000,1,2\n")
	write("evidence/"+evil+"owned.txt", "x")
	archive := filepath.Join(dir, "bars.zip")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	if _, err := z.Create(evil + "owned.csv"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a file of the evidence": {"evidence", "verify", "--evidence", filepath.Join(dir, "evidence")},
		"columns":                {"train", "--data", columns, "--models", filepath.Join(dir, "models"), "--evidence", filepath.Join(dir, "new")},
		"a member of an archive": {"train", "--data", archive, "--models", filepath.Join(dir, "models"), "--evidence", filepath.Join(dir, "new")},
		"a command":              {evil + "owned"},
		"a flag":                 {"train", "--" + evil + "owned"},
		"a model":                {"model", "show", evil + "owned", "--models", dir},
	} {
		code, stdout, stderr := run(t, args...)
		if code == console.ExitOK {
			t.Errorf("%s: exit %d, %q, %q", name, code, stdout, stderr)
		}
		if at := strings.IndexFunc(stdout+stderr, func(r rune) bool {
			return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
		}); at >= 0 {
			t.Errorf("%s: a control character in %q, %q", name, stdout, stderr)
		}
	}
}
