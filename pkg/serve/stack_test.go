package serve_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

var silent = slog.New(slog.DiscardHandler)

func TestRunClosesInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stack serve.Stack
		var order []string
		stopped := make(chan struct{})
		for _, name := range []string{"first", "second", "third"} {
			stack.OnStop(name, func(ctx context.Context) error {
				if limit, ok := ctx.Deadline(); !ok || time.Until(limit) != 10*time.Second {
					t.Errorf("%s: no grace of 10s", name)
				}
				if len(order) == 0 {
					close(stopped)
				}
				order = append(order, name)
				return nil
			})
		}
		stack.Serve("loop", func() error { <-stopped; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		stack.Start(ctx)
		if err := stack.Wait(ctx, 10*time.Second, silent); err != nil {
			t.Errorf("got %v, want nil", err)
		}
		if want := []string{"third", "second", "first"}; !slices.Equal(order, want) {
			t.Errorf("order: got %v, want %v", order, want)
		}
		if err := stack.Stop(t.Context(), time.Second); err != nil || len(order) != 3 {
			t.Errorf("a second close: got %v and %v", err, order)
		}
	})
}

func TestRunEndsWhenALoopDies(t *testing.T) {
	broken := errors.New("accept: broken")
	for name, tt := range map[string]struct {
		loop error
		want string
	}{
		"with an error": {broken, "grpc: accept: broken"},
		"unasked":       {nil, "grpc ended unexpectedly"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stack serve.Stack
				stopped := make(chan struct{})
				stack.OnStop("http", func(context.Context) error { close(stopped); return nil })
				stack.Serve("http", func() error { <-stopped; return nil })
				stack.Serve("grpc", func() error { time.Sleep(time.Minute); return tt.loop })
				start := time.Now()
				stack.Start(t.Context())
				err := stack.Wait(t.Context(), time.Second, silent)
				if err == nil || err.Error() != tt.want || (tt.loop != nil && !errors.Is(err, tt.loop)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if took := time.Since(start); took != time.Minute {
					t.Errorf("took %v, want 1m0s", took)
				}
			})
		})
	}
}

func TestRunReportsWhatFailsToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stack serve.Stack
		first, second := errors.New("one"), errors.New("two")
		stack.OnStop("a", func(context.Context) error { return first })
		stack.OnStop("b", func(context.Context) error { return second })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		stack.Start(ctx)
		err := stack.Wait(ctx, time.Second, silent)
		if !errors.Is(err, first) || !errors.Is(err, second) || err.Error() != "stop b: two\nstop a: one" {
			t.Errorf("got %v, want both with their names", err)
		}
	})
}

// A closer that uses up the grace period leaves the others no time, but they still run.
func TestGraceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stack serve.Stack
		ran := false
		stack.OnStop("last", func(ctx context.Context) error { ran = true; return ctx.Err() })
		stack.OnStop("slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		stack.Start(ctx)
		err := stack.Wait(ctx, 3*time.Second, silent)
		if took := time.Since(start); took != 3*time.Second || !ran || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v (last ran: %v), want a deadline after 3s", err, took, ran)
		}
	})
}

func TestListenNamesTheTakenPort(t *testing.T) {
	var stack serve.Stack
	l, err := stack.Listen(t.Context(), "127.0.0.1:0", "--grpc-addr")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	_, err = stack.Listen(t.Context(), taken, "--http-addr")
	want := fmt.Sprintf("listen on %s: another process has this port; stop it or choose another with --http-addr", taken)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := l.Close(); err != nil { // as its server does
		t.Fatal(err)
	}
	if err := stack.Stop(t.Context(), time.Second); err != nil {
		t.Errorf("close: got %v, want nil for a listener that is closed already", err)
	}
	for _, addr := range []string{"nonsense", "127.0.0.1:99999", "127.0.0.1:http-ish"} {
		if _, err := stack.Listen(t.Context(), addr, "--grpc-addr"); err == nil || !strings.Contains(err.Error(), "--grpc-addr") {
			t.Errorf("%s: got %v, want an error that names the flag", addr, err)
		}
	}
}

func TestServeHTTPEndsInPeace(t *testing.T) {
	var stack serve.Stack
	l, err := stack.Listen(t.Context(), "127.0.0.1:0", "--http-addr")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := serve.ServeHTTP(srv, l); err != nil {
		t.Errorf("after a shutdown: got %v, want nil", err)
	}
	if err := stack.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := serve.ServeHTTP(&http.Server{ReadHeaderTimeout: time.Second}, l); err == nil {
		t.Error("on a closed listener: got nil, want an error")
	}
}

func TestWriteAddresses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "addresses")
	addrs := map[string]net.Addr{
		"http": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4011}, "grpc": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4010},
	}
	for range 2 { // the second replaces the first
		if err := serve.WriteAddresses(path, addrs); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "grpc=127.0.0.1:4010\nhttp=127.0.0.1:4011\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if err := serve.WriteAddresses("", addrs); err != nil {
		t.Errorf("no path: got %v, want nil", err)
	}
	for _, bad := range []string{filepath.Join(dir, "no", "such", "folder"), dir} {
		if err := serve.WriteAddresses(bad, addrs); err == nil || !strings.Contains(err.Error(), "address file") {
			t.Errorf("%s: got %v, want an error about the address file", bad, err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v, want the file alone", files)
	}
}

// A resource that ignores its context delays the stop by the grace period plus a second, not forever.
func TestStopOfAHungResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var s serve.Stack
		s.OnStop("hangs", func(context.Context) error {
			<-release
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		s.Start(ctx)
		err := s.Wait(ctx, 10*time.Second, slog.New(slog.DiscardHandler))
		if err == nil || time.Since(begun) > 11*time.Second {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
	})
}

// A resource that clients delay leaves half of the time to the resources closed after it.
func TestHalfLeavesTimeToSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stack serve.Stack
		var left time.Duration
		stack.OnStop("features", func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return nil
		})
		stack.OnStop("calls", serve.Half(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		if err := stack.Stop(t.Context(), 10*time.Second); !errors.Is(err, context.DeadlineExceeded) || left != 5*time.Second {
			t.Errorf("got %v with %v left, want 5s", err, left)
		}
		if err := serve.Half(func(ctx context.Context) error { return ctx.Err() })(t.Context()); err != nil {
			t.Errorf("without a deadline: %v", err)
		}
	})
}
