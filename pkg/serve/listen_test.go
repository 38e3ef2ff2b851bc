package serve

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
)

const mode = DefaultSocketMode

// listen binds the address as a service does.
func listen(t *testing.T, addr string, mode SocketMode) (net.Listener, *Stack, error) {
	t.Helper()
	var stack Stack
	l, err := stack.listenGRPC(t.Context(), addr, mode, "--grpc-addr")
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return l, &stack, err
}

func connect(t *testing.T, path string) error {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		return err
	}
	return c.Close()
}

func TestListenOnASocket(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	for addr, want := range map[string]string{
		"unix:" + path: path, "unix://" + path: path, "unix:s.sock": path, "unix:./s.sock": path, "unix:sub/s": filepath.Join(dir, "sub", "s"),
	} {
		l, stack, err := listen(t, addr, mode)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if got := target(l.Addr()); got != "unix:"+want {
			t.Errorf("%s: got the target %s, want unix:%s", addr, got, want)
		}
		if err := connect(t, want); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if err := WriteAddresses("addresses", map[string]net.Addr{"grpc": l.Addr()}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile("addresses"); err != nil || string(got) != "grpc=unix:"+want+"\n" {
			t.Errorf("%s: the address file has %q, %v", addr, got, err)
		}
		if err := l.Close(); err != nil { // as its server does
			t.Error(err)
		}
		if _, err := os.Lstat(want); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file is there after the end (%v)", addr, err)
		}
		if err := stack.Stop(t.Context(), time.Second); err != nil {
			t.Errorf("%s: stop: %v", addr, err)
		}
	}
	// An address that is not a socket is bound as TCP.
	if l, _, err := listen(t, "127.0.0.1:0", mode); err != nil || !strings.HasPrefix(target(l.Addr()), "127.0.0.1:") {
		t.Errorf("TCP: got %v, %v", l, err)
	}
}

func TestSocketMode(t *testing.T) {
	dir := t.TempDir()
	for _, umask := range []int{0, 0o027, 0o077} {
		for text, want := range map[string]fs.FileMode{"": 0o660, "0600": 0o600, "666": 0o666} {
			m := mode
			if text != "" {
				if err := m.Set(text); err != nil {
					t.Fatal(err)
				}
			}
			old := syscall.Umask(umask)
			l, _, err := listen(t, "unix:"+filepath.Join(dir, "s"), m)
			syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.Lstat(filepath.Join(dir, "s"))
			if err != nil || file.Mode() != fs.ModeSocket|want {
				t.Errorf("umask %o, %q: got %v, %v; want %v", umask, text, file.Mode(), err, fs.ModeSocket|want)
			}
			_ = l.Close()
		}
	}
	for _, bad := range []string{"", "rw", "0668", "060", "1777", "4660", "-1", "0o660"} {
		if m := mode; m.Set(bad) == nil {
			t.Errorf("%q: got %s, want an error", bad, m.String())
		}
	}
	if m := mode; m.String() != "0660" {
		t.Errorf("got %s, want 0660", m.String())
	}
}

// The socket of a killed process is replaced, and nothing else is.
func TestTakenPaths(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for range 2 {
		servetest.StaleSocket(t, path)
		l, _, err := listen(t, "unix:"+path, mode)
		if err != nil {
			t.Fatalf("a stale socket: %v", err)
		}
		_, _, err = listen(t, "unix:"+path, mode)
		if want := "listen on unix:" + path + ": another process answers there; stop it or choose another path with --grpc-addr"; err == nil || err.Error() != want {
			t.Errorf("a socket in use: got %v, want %q", err, want)
		}
		if err := connect(t, path); err != nil {
			t.Errorf("after the attempt: %v", err)
		}
		_ = l.Close()
	}
	for name, place := range map[string]func(string) error{
		"a file":   func(p string) error { return os.WriteFile(p, []byte("keep"), 0o600) },
		"a folder": func(p string) error { return os.Mkdir(p, 0o700) },
		"a link": func(p string) error {
			servetest.StaleSocket(t, filepath.Join(dir, "target"))
			return os.Symlink("target", p)
		},
	} {
		at := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := place(at); err != nil {
			t.Fatal(err)
		}
		if _, _, err := listen(t, "unix:"+at, mode); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s: got %v, want an error that it is not a socket", name, err)
		}
		if _, err := os.Lstat(at); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
	}
}

// A process that stops does not remove the socket of its successor.
func TestStopLeavesTheSuccessorsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, _, err := listen(t, "unix:"+path, mode)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // by hand
		t.Fatal(err)
	}
	if _, _, err := listen(t, "unix:"+path, mode); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	if err := connect(t, path); err != nil {
		t.Errorf("the successor: %v", err)
	}
}

// If many processes find the same stale socket, one gets the path, and clients reach that one.
func TestOneTakesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		servetest.StaleSocket(t, path)
		var got [8]net.Listener
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i], _, _ = listen(t, "unix:"+path, mode) })
		}
		wg.Wait()
		var won []net.Listener
		for _, l := range got {
			if l != nil {
				won = append(won, l)
			}
		}
		if len(won) != 1 {
			t.Fatalf("%d listen, want 1", len(won))
		}
		if err := connect(t, path); err != nil {
			t.Fatal(err)
		}
		if err := won[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSocketErrors(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("x", 200))
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"unix:" + long:          "but the system allows 107: choose a shorter one",
		"unix:" + dir + "/no/s": "there is no folder " + dir + "/no: create it",
		"unix:" + file + "/s":   "not a directory",
		"unix:":                 "needs the path of a file",
		"unix://":               "needs the path of a file",
		"unix:" + dir + "/":     "needs the path of a file",
		"unix://host/s":         "want unix:path or unix:///path",
		"unix:/s?x=1":           "without ?, # and %",
		"unix:/s%20":            "without ?, # and %",
		"unix:@s":               "an abstract socket has no file",
		"unix-abstract:s":       "an abstract socket has no file",
	} {
		if _, _, err := listen(t, addr, mode); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--grpc-addr") {
			t.Errorf("%s: got %v, want %q and the flag in it", addr, err, want)
		}
	}
	var stack Stack
	if _, err := stack.Listen(t.Context(), "unix:"+dir+"/s", "--http-addr"); err == nil || !strings.Contains(err.Error(), "--http-addr): this listener supports TCP only") {
		t.Errorf("HTTP: got %v", err)
	}
	// The longest allowed path works.
	path := filepath.Join(dir, strings.Repeat("x", 106-len(dir)))
	if _, _, err := listen(t, "unix:"+path, mode); err != nil || len(path) != 107 {
		t.Errorf("%d bytes: %v", len(path), err)
	}
}

// A folder that stays locked is an error, not an endless wait.
func TestLockedFolder(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stack Stack
	if _, err := stack.listenGRPC(ctx, "unix:"+dir+"/s", mode, "--grpc-addr"); err == nil || !strings.Contains(err.Error(), "lock the folder "+dir) {
		t.Errorf("got %v", err)
	}
}

func TestCheckListen(t *testing.T) {
	for addr, want := range map[string]struct{ grpc, http bool }{
		"127.0.0.1:4010": {true, true}, ":4010": {true, true}, "[::1]:0": {true, true}, "unix:x.sock": {true, false},
		"": {}, "127.0.0.1": {}, "http://127.0.0.1:4010": {}, "127.0.0.1:x": {}, "127.0.0.1:70000": {}, "unix:": {}, "unix-abstract:x": {},
	} {
		for grpc, want := range map[bool]bool{true: want.grpc, false: want.http} {
			err := checkListen(addr, "--x-addr", grpc)
			if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "--x-addr") {
				t.Errorf("%q, for gRPC %t: got %v, want it good: %t", addr, grpc, err, want)
			}
		}
	}
}
