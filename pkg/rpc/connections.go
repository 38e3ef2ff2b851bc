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
	// DefaultMaxConnections is the default limit of open connections per listener.
	DefaultMaxConnections = 1024
	// One slot in othersShare is closed to a client address that holds all other slots. One in localShare is reserved for
	// this machine, so that an operator gets in when the network has taken the rest.
	othersShare, localShare = 8, 16
	// refusalPause is the least time between two log lines about refused connections.
	refusalPause = time.Minute
)

// The reasons that a connection is refused.
const (
	refusedFull    = "listener_full"
	refusedAddress = "address_full"
)

// Connections limits the open connections of a service's listeners. It refuses excess connections at once, with a reset:
// left in the kernel's queue they would wait until they time out, and block operators behind them.
type Connections struct {
	limit   int
	logger  *slog.Logger
	open    *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

// ValidateMaxConnections returns an error if n is no valid limit; 0 is no limit.
func ValidateMaxConnections(n int) error {
	if n < 0 {
		return fmt.Errorf("--max-connections %d: want 0 or more", n)
	}
	return nil
}

// NewConnections returns a limit of open connections for each listener. With 0 they are counted but not limited.
func NewConnections(limit int, logger *slog.Logger, reg prometheus.Registerer) *Connections {
	f := promauto.With(reg)
	return &Connections{
		limit: limit, logger: logger,
		open: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_connections_open", Help: "Open connections.",
		}, []string{"listener"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ml_connections_refused_total", Help: "Connections that were refused because the listener, or the client's address, had too many open.",
		}, []string{"listener", "reason"}),
	}
}

// Limit returns the listener with the limit applied. name is its name in metrics and in the log. An accepted connection
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

	mu         sync.Mutex
	all        int
	of         map[netip.Addr]int // connections per client; no entry is 0
	unlogged   int                // refusals since the last log line
	lastLogged time.Time
}

// Accept waits for a connection within the limit and refuses the others.
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
			return l.withSlot(c, func() { l.leave(client) }), nil
		}
		l.refused[reason].Inc()
		l.logRefusal(reason, client)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // close with a reset
		}
		_ = c.Close()
	}
}

// withSlot returns the connection, which gives back its slot when it is closed.
func (*limitedListener) withSlot(c net.Conn, leave func()) net.Conn {
	switch c := c.(type) {
	case *net.TCPConn:
		return &connection{TCPConn: c, slot: slot{leave: leave}}
	case *localConn:
		c.slot.leave = leave
	default: // an in-memory connection of a test
		leave()
	}
	return c
}

// enter takes a slot for the client. If there is none, it returns the reason.
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

// logRefusal logs refusals, at most one line per refusalPause.
func (l *limitedListener) logRefusal(reason string, client netip.Addr) {
	l.mu.Lock()
	l.unlogged++
	n, now := l.unlogged, time.Now()
	due := now.Sub(l.lastLogged) >= refusalPause
	if due {
		l.unlogged, l.lastLogged = 0, now
	}
	open, own := l.all, l.of[client]
	l.mu.Unlock()
	if due {
		l.logger.Warn("connections are refused: too many are open (--max-connections)", "listener", l.name, "reason", reason,
			"last_from", client.String(), "open", open, "open_of_that_address", own, "refused_since_last_said", n)
	}
}

// slot is a place under the limit. It is given back once, if it was taken.
type slot struct {
	left  atomic.Bool
	leave func()
}

func (p *slot) release() {
	if p.leave != nil && p.left.CompareAndSwap(false, true) {
		p.leave()
	}
}

// connection gives back its slot when it is closed. It embeds the TCP connection, so that kernel optimizations for TCP still
// apply.
type connection struct {
	*net.TCPConn

	slot slot
}

// Close implements net.Conn.
func (c *connection) Close() error {
	defer c.slot.release()
	return c.TCPConn.Close()
}
