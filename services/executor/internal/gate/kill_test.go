package gate

import (
	"log/slog"
	"os"
	"testing"
	"time"
)

// OnKill reports the kill file and an earlier kill, whatever the latch.
func TestOnKillIsTold(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(Options{Allowed: true, Dir: dir, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kills := make(chan bool, 10)
	told := func(what string, want int) {
		t.Helper()
		for range want {
			select {
			case <-kills:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: not told", what)
			}
		}
	}
	if err := k.Kill("me", "", "early"); err != nil {
		t.Fatal(err)
	}
	k.OnKill(func() { kills <- true }) // the saver is already running
	told("a kill before OnKill", 1)
	if err := os.WriteFile(k.killPath(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	told("the file, while the latch is set", 1)
	k.Stop()
	if k, err = Open(Options{Allowed: true, Dir: dir, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	k.OnKill(func() { kills <- true })
	told("the file that was there before", 1)
}
