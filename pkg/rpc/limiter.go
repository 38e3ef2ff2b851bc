package rpc

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// maxIdle is how many clients' buckets are kept before full ones are removed.
const maxIdle = 1024

// Limiter limits how many calls each client may begin per second. It has a token bucket per IPv4 address and per IPv6 /64
// network, with a burst of one second. Clients of a Unix socket share the bucket of 127.0.0.1. A batch counts as one call, and
// so does a stream, except that every message of Decide counts; other limits bound their size. An allowed call costs one map
// lookup and no allocation.
type Limiter struct {
	limit rate.Limit
	burst int

	mu      sync.RWMutex
	clients map[netip.Addr]*rate.Limiter
	swept   time.Time
}

// NewLimiter returns a limiter. For a rate of 0 it is nil, which limits nothing.
func NewLimiter(callsPerSecond float64) *Limiter {
	if callsPerSecond <= 0 {
		return nil
	}
	return &Limiter{limit: rate.Limit(callsPerSecond), burst: max(1, int(callsPerSecond)), clients: map[netip.Addr]*rate.Limiter{}}
}

// allow reports whether the client may begin a call now.
func (l *Limiter) allow(client netip.Addr) bool {
	l.mu.RLock()
	bucket := l.clients[client]
	l.mu.RUnlock()
	if bucket == nil {
		bucket = l.add(client)
	}
	return bucket.Allow()
}

func (l *Limiter) add(client netip.Addr) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bucket := l.clients[client]; bucket != nil {
		return bucket
	}
	// At most once per second, so that a flood of addresses does not make every call sweep.
	if now := time.Now(); len(l.clients) >= maxIdle && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for addr, bucket := range l.clients {
			if bucket.TokensAt(now) >= float64(l.burst) { // full, so it equals a new one
				delete(l.clients, addr)
			}
		}
	}
	bucket := rate.NewLimiter(l.limit, l.burst)
	l.clients[client] = bucket
	return bucket
}

// Check counts a call, or a message of a stream. It returns an error if the client has exceeded its rate.
func (l *Limiter) Check(ctx context.Context) error {
	if l == nil {
		return nil
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	if l.allow(addressOf(p.Addr)) {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "more than %v calls a second from this address (--max-request-rate)", float64(l.limit))
}

func clientOf(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap().WithZone(""); addr.Is4() || addr.IsLoopback() {
		return addr
	}
	network, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return network.Addr()
}

// limited applies the limiter to a server. Control calls and health checks are exempt: they must get through a flood from the
// same address.
type limited struct {
	limiter *Limiter
	control *Control
}

func (l limited) exempt(fullMethod string) bool {
	name := service(fullMethod)
	return name == "grpc.health.v1.Health" || (l.control != nil && l.control.guards(name))
}

func (l limited) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !l.exempt(info.FullMethod) {
		if err := l.limiter.Check(ctx); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
}

func (l limited) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !l.exempt(info.FullMethod) {
		if err := l.limiter.Check(ss.Context()); err != nil {
			return err
		}
	}
	return handler(srv, ss)
}

// LimitHTTP applies the limit to POST requests, which are the calls over HTTP. They share the buckets of gRPC calls from the
// same client.
func (l *Limiter) LimitHTTP(next http.Handler) http.Handler {
	if l == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddrPort(r.RemoteAddr)
		if r.Method == http.MethodPost && err == nil && !l.allow(clientOf(addr.Addr())) {
			http.Error(w, "too many calls a second from this address (--max-request-rate)", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}
