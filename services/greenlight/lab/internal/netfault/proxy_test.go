package netfault

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// echoServer echoes on every connection.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func newProxy(t *testing.T) *Proxy {
	t.Helper()
	p, err := NewProxy(echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// say sends a word on the connection and returns what comes back within the time limit.
func say(conn net.Conn, within time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("word")); err != nil {
		return "", err
	}
	buffer := make([]byte, 4)
	_, err := io.ReadFull(conn, buffer)
	return string(buffer), err
}

func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const soon, never = 10 * time.Second, 50 * time.Millisecond

func wantEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	if got, err := say(conn, soon); got != "word" || err != nil {
		t.Fatalf("got %q, %v; want the word back", got, err)
	}
}

func TestProxyRefusesAndOpens(t *testing.T) {
	p := newProxy(t)
	conn := connect(t, p.Addr())
	wantEcho(t, conn)
	p.Refuse()
	if _, err := say(conn, soon); err == nil {
		t.Error("the connection outlived its proxy")
	}
	var d net.Dialer
	if c, err := d.DialContext(t.Context(), "tcp", p.Addr()); err == nil {
		_ = c.Close()
		t.Error("connected to a proxy that refuses")
	}
	if err := p.Open(); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, connect(t, p.Addr()))
}

// Connections that were used while packets vanished stay deaf; new ones work.
func TestProxyVanish(t *testing.T) {
	p := newProxy(t)
	conn := connect(t, p.Addr())
	wantEcho(t, conn)
	if err := p.Poison(Poison{Kind: VanishKind, Chance: 1, Both: true}); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, conn)
	p.Vanish(true)
	t.Cleanup(func() { p.Vanish(false) })
	silent := func(what string) {
		t.Helper()
		var timeout net.Error
		if _, err := say(conn, never); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: got %v, want silence", what, err)
		}
	}
	silent("while packets vanish")
	p.Vanish(false)
	silent("afterwards")
	wantEcho(t, connect(t, p.Addr()))
	if err := p.Cure(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func TestProxyCuts(t *testing.T) {
	p := newProxy(t)
	if err := p.Poison(Poison{Kind: CutKind, Chance: 1, Attrs: map[string]any{"chance": 0.5}}); err != nil {
		t.Fatal(err)
	}
	cut, answered := 0, 0
	for range 100 {
		if _, err := say(connect(t, p.Addr()), soon); err != nil {
			cut++
		} else {
			answered++
		}
	}
	if cut < 20 || answered < 20 {
		t.Errorf("at a chance of 0.5: %d cut, %d answered", cut, answered)
	}
	if err := p.Poison(Poison{Kind: "no such toxic", Chance: 1}); err == nil || !strings.Contains(err.Error(), "no such toxic") {
		t.Errorf("an unknown toxic: got %v", err)
	}
}

func TestProxyRoutes(t *testing.T) {
	p := newProxy(t)
	g, err := relay.StartGarbage(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Route(g.Addr()); err != nil {
		t.Fatal(err)
	}
	if got, err := say(connect(t, p.Addr()), soon); got != "HTTP" {
		t.Errorf("got %q, %v; want garbage", got, err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
