package rpc

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// doorman is a listener with a limit, and the connections it accepted.
type doorman struct {
	t        *testing.T
	l        *limitedListener
	accepted chan net.Conn
	reg      *prometheus.Registry
	log      bytes.Buffer
}

func newDoorman(t *testing.T, limit int) *doorman {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &doorman{t: t, accepted: make(chan net.Conn)}
	d.reg = prometheus.NewRegistry()
	d.l = LimitConnections(l, "grpc", limit, slog.New(slog.NewTextHandler(&d.log, nil)), d.reg).(*limitedListener)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := d.l.Accept()
			if err != nil {
				return
			}
			d.accepted <- c
		}
	}()
	t.Cleanup(func() {
		_ = d.l.Close()
		<-done
	})
	return d
}

// knock opens a connection from a loopback address and returns the server's end, nil if it was refused.
func (d *doorman) knock(from string) net.Conn {
	d.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.DialContext(d.t.Context(), "tcp", d.l.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1)) // nothing is ever sent
		ended <- err
	}()
	select {
	case in := <-d.accepted:
		d.t.Cleanup(func() { _ = in.Close() })
		return in
	case err := <-ended:
		if !errors.Is(err, syscall.ECONNRESET) {
			d.t.Errorf("refused with %v, want a reset", err)
		}
		return nil
	}
}

// Refusals are immediate, counted, and logged once. A slot is released once.
func TestConnectionsAreBounded(t *testing.T) {
	d := newDoorman(t, 16)
	value := func(name string) float64 {
		t.Helper()
		families, err := d.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if m := f.GetMetric()[0]; f.GetName() == name && m.GetLabel()[0].GetValue() == "grpc" {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue() // it is one of the two
			}
		}
		t.Fatalf("no metric %s", name)
		return 0
	}
	var first net.Conn
	for i := range 20 {
		in := d.knock("127.0.0.1")
		if (in != nil) != (i < 16) {
			t.Fatalf("connection %d: let in %t", i, in != nil)
		}
		if i == 0 {
			first = in
		}
	}
	if refused, open := value("ml_connections_refused_total"), value("ml_connections_open"); refused != 4 || open != 16 {
		t.Errorf("refused %v, open %v: want 4 and 16", refused, open)
	}
	for range 2 {
		_ = first.Close()
	}
	if open := value("ml_connections_open"); open != 15 {
		t.Errorf("one is closed, twice: %v are open", open)
	}
	if d.knock("127.0.0.1") == nil || d.knock("127.0.0.1") != nil {
		t.Error("a slot given back twice counts twice")
	}
	if log := d.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "--max-connections") || !strings.Contains(log, "last_from=127.0.0.1") {
		t.Errorf("the log: %s", log)
	}
}

func TestConnectionsWithoutBound(t *testing.T) {
	d := newDoorman(t, 0)
	for i := range 40 {
		if d.knock("127.0.0.1") == nil {
			t.Fatalf("connection %d is refused", i)
		}
	}
}

// A sixteenth of the slots is reserved for this machine.
func TestConnectionsOfTheNetwork(t *testing.T) {
	l := &limitedListener{limit: 32}
	in := 0
	for range 200 {
		if l.enter(false) {
			in++
		}
	}
	if in != 30 {
		t.Errorf("%d slots for the network, want 30 of 32", in)
	}
	for i, want := range []bool{true, true, false} {
		if got := l.enter(true); got != want {
			t.Errorf("slot %d of this machine: %t, want %t", i, got, want)
		}
	}
}

// Clients of a Unix socket count as this machine, and are identified.
func TestConnectionsOfASocketAreBounded(t *testing.T) {
	bound, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	l := LimitConnections(bound, "grpc", 7, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	defer l.Close()
	knock := func() net.Conn {
		client, err := (&net.Dialer{}).DialContext(t.Context(), "unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	var in []net.Conn
	for range 7 {
		knock()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		in = append(in, c)
	}
	if who := in[0].RemoteAddr().String(); !strings.HasPrefix(who, "unix") {
		t.Errorf("the client is %q", who)
	}
	refused := knock()
	accepted := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if _, err := refused.Read(make([]byte, 1)); err == nil {
		t.Error("an eighth is let in")
	}
	_ = in[0].Close()
	_ = in[0].Close() // a slot is released once
	knock()
	if c := <-accepted; c == nil {
		t.Error("nobody is let in after one has left")
	} else {
		_ = c.Close()
	}
}
