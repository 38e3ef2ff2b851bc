package serve_test

import (
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/serve"
)

// newApp returns a service on free ports.
func newApp(t *testing.T, args ...string) (*serve.App, error) {
	t.Helper()
	var o serve.Options
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	o.Declare(fs, "127.0.0.1:0", "127.0.0.1:0", "ControlService")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a, err := serve.New(t.Context(), &o, serve.Service{Name: "test", Throttled: []string{"s.S"}}, silent)
	if err != nil {
		return nil, err
	}
	a.State = func() string { return "state" }
	t.Cleanup(func() { _ = a.Stop(context.Background()) }) //nolint:usetesting // the test's context has ended
	return a, nil
}

func get(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// A service listens before it serves, and stops in order: long calls, the servers, then its parts, the last opened first.
func TestAppStopsInOrder(t *testing.T) {
	a, err := newApp(t)
	if err != nil {
		t.Fatal(err)
	}
	grpcAddr, httpAddr := a.Addr()
	var order []string
	note := func(name string) func(context.Context) error {
		return func(context.Context) error {
			if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", httpAddr); err == nil {
				name += " while it listens"
				_ = c.Close()
			}
			order = append(order, name)
			return nil
		}
	}
	a.OnStop("first", note("first"))
	a.OnDrain("streams", note("streams"))
	a.OnStop("second", note("second"))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, httpAddr, "/readyz"); code != http.StatusOK || body != "state\n" {
		t.Errorf("/readyz: got %d %q", code, body)
	}
	conn, err := rpc.Dial(grpcAddr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := a.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if want := []string{"streams while it listens", "second", "first"}; !slices.Equal(order, want) {
		t.Errorf("order: got %q, want %q", order, want)
	}
	if err := a.Stop(t.Context()); err != nil || len(order) != 3 {
		t.Errorf("a second stop: got %v and %q", err, order)
	}
}

func TestProfilesAreOnlyThereOnRequest(t *testing.T) {
	for flags, want := range map[string]int{"": http.StatusNotFound, "--profiles": http.StatusOK} {
		a, err := newApp(t, strings.Fields(flags)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, addr := a.Addr()
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap"} {
			if code, body := get(t, addr, path); code != want || body == "" {
				t.Errorf("%q: %s: got %d with %d bytes, want %d", flags, path, code, len(body), want)
			}
		}
	}
}

// An invalid configuration is an error before anything is served, and leaves no listener open.
func TestAppRefuses(t *testing.T) {
	taken, err := newApp(t)
	if err != nil {
		t.Fatal(err)
	}
	grpcAddr, httpAddr := taken.Addr()
	none := filepath.Join(t.TempDir(), "none.pem")
	for flags, want := range map[string]string{
		"--grpc-addr=" + grpcAddr: "choose another with --grpc-addr", "--http-addr=" + httpAddr: "choose another with --http-addr",
		"--grpc-addr=x": "--grpc-addr", "--http-addr=unix:x": "--http-addr", "--max-connections=-1": "--max-connections -1",
		"--max-request-rate=-1": "--max-request-rate -1", "--max-request-rate=NaN": "--max-request-rate NaN", "--shutdown-grace=0": "--shutdown-grace",
		"--tls-cert=x": "--tls-key", "--tls-cert=" + none + " --tls-key=" + none: "--tls-cert", "--control-san=a": "--tls-client-ca",
	} {
		if _, err := newApp(t, strings.Fields(flags)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", flags, err, want)
		}
	}
	if a, err := newApp(t, "--address-file=no/such/file"); err != nil {
		t.Error(err)
	} else if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address file") {
		t.Errorf("no folder for the addresses: got %v", err)
	}
}
