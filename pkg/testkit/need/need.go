// Package need skips tests that lack a program or data. With GREENLIGHT_STRICT=1, which continuous integration sets, they
// fail instead, so that no test is skipped unnoticed.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing skips the test, or fails it with GREENLIGHT_STRICT=1.
func Missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("GREENLIGHT_STRICT") == "1" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// Program returns the path of a program. debian is the Debian package that contains it.
func Program(tb testing.TB, name, debian string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(tb, "%s is not installed (Debian: apt-get install %s)", name, debian)
	}
	return path
}

// Data returns the folder of market data.
func Data(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("GREENLIGHT_DATA")
	if dir == "" {
		Missing(tb, "GREENLIGHT_DATA is not set: it names the folder of market data")
	}
	return dir
}

// Programs returns a folder with the named programs: GREENLIGHT_BIN, where make test has built them for all tests, or a temporary
// folder in which it builds them. root is the folder of the repository.
func Programs(tb testing.TB, root string, names ...string) string {
	tb.Helper()
	if built := os.Getenv("GREENLIGHT_BIN"); built != "" {
		return built
	}
	dir := tb.TempDir()
	for _, name := range names {
		source := "./services/" + name
		if name == "greenlight-lab" {
			source = "./services/greenlight/lab"
		}
		build := exec.CommandContext(tb.Context(), "go", "build", "-o", filepath.Join(dir, name), source)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			tb.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}
