package netfault

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestNameServer(t *testing.T) {
	s, err := StartNameServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
	lookup := func(name string, within time.Duration) ([]string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return resolver.LookupHost(ctx, name)
	}
	if got, err := lookup(engineName, soon); err != nil || len(got) != 1 || got[0] != "127.0.0.1" {
		t.Errorf("got %v, %v; want 127.0.0.1", got, err)
	}
	if got, err := lookup("another.greenlight.test.", soon); err == nil {
		t.Errorf("a name that is not known: got %v", got)
	}
	s.silent.Store(true)
	if got, err := lookup(engineName, never); err == nil {
		t.Errorf("while it is silent: got %v", got)
	}
	if target, err := s.Target("127.0.0.1:4010"); err != nil || target != "dns://"+s.conn.LocalAddr().String()+"/ml-engine.greenlight.test.:4010" {
		t.Errorf("target: got %q, %v", target, err)
	}
}
