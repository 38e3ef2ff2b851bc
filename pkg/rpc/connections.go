package rpc

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"
)

const (
	// DefaultMaxConnections is the default limit of open connections per listener.
	DefaultMaxConnections = 1024
	// localShare is the part of the slots that is reserved for this machine: one in 16, so that an operator can connect when
	// the network has taken the rest.
	localShare = 16
	// refusalPause is the minimum time between two log lines about refused connections.
	refusalPause = time.Minute
)

// LimitConnections returns the listener with at most limit open connections; 0 is no limit. It refuses excess connections
// immediately, with a reset: in the kernel's queue they would wait until they time out, and block operators behind them. name
// is the listener's name in metrics and in the log.
func LimitConnections(l net.Listener, name string, limit int, logger *slog.Logger, reg prometheus.Registerer) net.Listener {
	f, labels := promauto.With(reg), prometheus.Labels{"listener": name}
	limited := &limitedListener{
		Listener: identified(l), name: name, limit: int64(limit), logger: logger, logged: rate.Sometimes{Interval: refusalPause},
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_connections_refused_total", Help: "Connections that were refused because the listener had too many open.", ConstLabels: labels,
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_connections_open", Help: "Open connections.", ConstLabels: labels},
		func() float64 { return float64(limited.open.Load()) })
	return limited
}

type limitedListener struct {
	net.Listener

	name    string
	limit   int64
	open    atomic.Int64
	refused prometheus.Counter
	logger  *slog.Logger
	logged  rate.Sometimes
}

// Accept waits for a connection within the limit and refuses the others.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.enter(onThisMachine(c.RemoteAddr())) {
			return &connection{Conn: c, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.refused.Inc()
		l.logged.Do(func() {
			l.logger.Warn("connections are refused: too many are open (--max-connections)", "listener", l.name, "last_from", c.RemoteAddr().String(), "open", l.open.Load())
		})
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // close with a reset
		}
		_ = c.Close()
	}
}

// enter takes a slot, and reports whether one was free.
func (l *limitedListener) enter(local bool) bool {
	limit := l.limit
	if !local {
		limit -= l.limit / localShare
	}
	if l.open.Add(1) > limit && l.limit > 0 {
		l.open.Add(-1)
		return false
	}
	return true
}

// connection releases its slot when it is closed.
type connection struct {
	net.Conn

	leave func()
}

// Close implements net.Conn.
func (c *connection) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
