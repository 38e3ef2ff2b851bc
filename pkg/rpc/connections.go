package rpc

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// DefaultMaxConnections is how many connections a listener has open at most, unless it is told otherwise.
	DefaultMaxConnections = 1024
	// One in so many places is not for the client address that has all the others, and one in so many is for this machine
	// alone, so that who looks after it gets in when the network has taken the rest.
	othersShare, localShare = 8, 16
	// refusalPause is the least time between two log lines about refused connections.
	refusalPause = time.Minute
)

// Why a connection is refused.
const (
	refusedFull    = "listener_full"
	refusedAddress = "address_full"
)

// Connections bounds how many connections the listeners of a service have open. It refuses what is too much at once, by a
// reset: a peer that is left in the kernel's queue waits until it gives up, and it fills the queue that operators come by.
type Connections struct {
	limit   int
	logger  *slog.Logger
	open    *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

// ValidateMaxConnections checks a limit; 0 is none.
func ValidateMaxConnections(n int) error {
	if n < 0 {
		return fmt.Errorf("--max-connections %d: want 0 or more", n)
	}
	return nil
}

// NewConnections returns the bound of so many open connections for each listener; 0 is none, they are counted still.
func NewConnections(limit int, logger *slog.Logger, reg prometheus.Registerer) *Connections {
	f := promauto.With(reg)
	return &Connections{
		limit: limit, logger: logger,
		open: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_connections_open", Help: "Connections that are open.",
		}, []string{"listener"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ml_connections_refused_total", Help: "Connections that were refused because the listener, or the client's address, had too many open.",
		}, []string{"listener", "reason"}),
	}
}

// Limit is the listener with the bound. name tells it from the others, in metrics and in the log. A connection that is let in
// costs nothing more until it is closed.
func (c *Connections) Limit(name string, l net.Listener) net.Listener {
	return &limitedListener{
		Listener: identified(l), name: name, limit: c.limit, logger: c.logger, open: c.open.WithLabelValues(name), of: map[netip.Addr]int{},
		refused: map[string]prometheus.Counter{
			refusedFull: c.refused.WithLabelValues(name, refusedFull), refusedAddress: c.refused.WithLabelValues(name, refusedAddress),
		},
	}
}

type limitedListener struct {
	net.Listener

	name    string
	limit   int
	logger  *slog.Logger
	open    prometheus.Gauge
	refused map[string]prometheus.Counter

	mu     sync.Mutex
	all    int
	of     map[netip.Addr]int // none is 0
	unsaid int                // refusals since the log was told
	said   time.Time
}

// Accept waits for a connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := addressOf(c.RemoteAddr())
		reason := l.enter(client)
		if reason == "" {
			l.open.Inc()
			return l.let(c, func() { l.leave(client) }), nil
		}
		l.refused[reason].Inc()
		l.say(reason, client)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, and no socket that lingers
		}
		_ = c.Close()
	}
}

// let is the connection with a place to give back.
func (*limitedListener) let(c net.Conn, leave func()) net.Conn {
	switch c := c.(type) {
	case *net.TCPConn:
		return &connection{TCPConn: c, place: place{leave: leave}}
	case *localConn:
		c.place.leave = leave
	default: // a test's, in memory
		leave()
	}
	return c
}

// enter takes a place for the client, or says why there is none.
func (l *limitedListener) enter(client netip.Addr) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.limit
	if !client.IsLoopback() {
		room -= l.limit / localShare
	}
	switch {
	case l.limit == 0:
	case l.all >= room:
		return refusedFull
	case l.of[client] >= l.limit-l.limit/othersShare:
		return refusedAddress
	}
	l.all++
	l.of[client]++
	return ""
}

func (l *limitedListener) leave(client netip.Addr) {
	l.mu.Lock()
	l.all--
	if l.of[client]--; l.of[client] == 0 {
		delete(l.of, client)
	}
	l.mu.Unlock()
	l.open.Dec()
}

// say tells the log now and then.
func (l *limitedListener) say(reason string, client netip.Addr) {
	l.mu.Lock()
	l.unsaid++
	n, now := l.unsaid, time.Now()
	due := now.Sub(l.said) >= refusalPause
	if due {
		l.unsaid, l.said = 0, now
	}
	open, own := l.all, l.of[client]
	l.mu.Unlock()
	if due {
		l.logger.Warn("connections are refused: too many are open (--max-connections)", "listener", l.name, "reason", reason,
			"last_from", client.String(), "open", open, "open_of_that_address", own, "refused_since_last_said", n)
	}
}

// place is given back once, if it was taken.
type place struct {
	left  atomic.Bool
	leave func()
}

func (p *place) giveBack() {
	if p.leave != nil && p.left.CompareAndSwap(false, true) {
		p.leave()
	}
}

// connection gives its place back when it is closed. It is a TCP connection in all else, so that what the kernel does for
// one is done for it.
type connection struct {
	*net.TCPConn

	place place
}

// Close implements net.Conn.
func (c *connection) Close() error {
	defer c.place.giveBack()
	return c.TCPConn.Close()
}
