// Package need skips tests that lack a program or data. With GREENLIGHT_STRICT=1, which continuous integration sets, they
// fail instead, so that nothing goes untested unseen.
package need

import (
	"os"
	"os/exec"
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

// Program returns the path of a program. debian names the Debian package that has it.
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
