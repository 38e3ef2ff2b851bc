package rpc

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// doorman is a listener with a limit, and the connections it accepted.
type doorman struct {
	t        *testing.T
	bound    *Connections
	l        net.Listener
	accepted chan net.Conn
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
	d.bound = NewConnections(limit, slog.New(slog.NewTextHandler(&d.log, nil)), prometheus.NewRegistry())
	d.l = d.bound.Limit("grpc", l)
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

// One address leaves an eighth of the slots to others. Refusals are immediate, counted, and logged once. A slot is given
// back once.
func TestConnectionsAreBounded(t *testing.T) {
	d := newDoorman(t, 16)
	refused := func(reason string) float64 {
		return testutil.ToFloat64(d.bound.refused.WithLabelValues("grpc", reason))
	}
	open := func() float64 { return testutil.ToFloat64(d.bound.open.WithLabelValues("grpc")) }
	var first net.Conn
	for i := range 20 {
		in := d.knock("127.0.0.1")
		if (in != nil) != (i < 14) {
			t.Fatalf("connection %d of one address: let in %t", i, in != nil)
		}
		if i == 0 {
			first = in
		}
	}
	for i := range 3 {
		if in := d.knock("127.0.0.2"); (in != nil) != (i < 2) {
			t.Fatalf("connection %d of another address: let in %t", i, in != nil)
		}
	}
	if refused(refusedAddress) != 6 || refused(refusedFull) != 1 || open() != 16 {
		t.Errorf("refused %v and %v, open %v: want 6, 1 and 16", refused(refusedAddress), refused(refusedFull), open())
	}
	for range 2 {
		_ = first.Close()
	}
	if open() != 15 {
		t.Errorf("one is closed, twice: %v are open", open())
	}
	if d.knock("127.0.0.1") == nil || d.knock("127.0.0.1") != nil {
		t.Error("a slot given back twice counts twice")
	}
	if _, ok := first.(interface {
		SyscallConn() (syscall.RawConn, error)
	}); !ok {
		t.Error("a connection that was let in is not one of TCP any more")
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
	if err := ValidateMaxConnections(-1); err == nil || !strings.Contains(err.Error(), "--max-connections -1") {
		t.Errorf("a limit of -1: %v", err)
	}
}

// The network leaves a sixteenth of the slots to this machine. An IPv6 /64 network is one client.
func TestConnectionsOfTheNetwork(t *testing.T) {
	d := newDoorman(t, 32)
	l := d.l.(*limitedListener)
	in := 0
	for i := range 200 {
		if l.enter(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})) == "" {
			in++
		}
	}
	if in != 30 {
		t.Errorf("%d places for the network, want 30 of 32", in)
	}
	for i, want := range []string{"", "", refusedFull} {
		if got := l.enter(netip.MustParseAddr("127.0.0.1")); got != want {
			t.Errorf("slot %d of this machine: %q, want %q", i, got, want)
		}
	}
	if a, b := clientOf(netip.MustParseAddr("2001:db8::1")), clientOf(netip.MustParseAddr("2001:db8::2")); a != b {
		t.Errorf("%v and %v are two clients", a, b)
	}
	if len(l.of) != 31 {
		t.Errorf("%d addresses are kept, want 31", len(l.of))
	}
}

// The clients of a Unix socket count as one address, and are still identified.
func TestConnectionsOfASocketAreBounded(t *testing.T) {
	bound, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	connections := NewConnections(8, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	l := connections.Limit("grpc", bound)
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
	_ = in[0].Close() // a slot is given back once
	knock()
	if c := <-accepted; c == nil {
		t.Error("nobody is let in after one has left")
	} else {
		_ = c.Close()
	}
	if open := testutil.ToFloat64(connections.open.WithLabelValues("grpc")); open != 6 {
		t.Errorf("%v are open, want 6", open)
	}
}

func TestRefusedConnectionsAreLoggedAtALimitedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := &limitedListener{name: "http", logger: slog.New(slog.NewTextHandler(&log, nil))}
		var wg sync.WaitGroup
		for range 3 {
			for range 100 {
				wg.Go(func() { l.logRefusal(refusedFull, netip.MustParseAddr("10.0.0.1")) })
			}
			wg.Wait()
			time.Sleep(refusalPause)
		}
		text := log.String()
		for _, want := range []string{"refused_since_last_said=1\n", "refused_since_last_said=100\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("want %q in the log: %s", want, text)
			}
		}
		if n := strings.Count(text, "\n"); n != 3 {
			t.Errorf("%d lines, want 3", n)
		}
	})
}
