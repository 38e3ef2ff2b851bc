package rpc

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func caller(t testing.TB, ip string) context.Context {
	t.Helper()
	return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}})
}

// Each address has a limit of calls per second, with a burst of one second.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(10)
		begun := func(ip string) (n int) {
			for range 100 {
				if l.Check(caller(t, ip)) == nil {
					n++
				}
			}
			return n
		}
		for _, step := range []struct {
			wait time.Duration
			ip   string
			want int
		}{{0, "10.0.0.1", 10}, {0, "10.0.0.1", 0}, {0, "10.0.0.2", 10}, {0, "::ffff:10.0.0.2", 0}, {300 * time.Millisecond, "10.0.0.1", 3}, {time.Hour, "10.0.0.1", 10}, {0, "2001:db8::1", 10}, {0, "2001:db8::2", 0}, {0, "2001:db8:0:1::1", 10}} {
			time.Sleep(step.wait)
			if got := begun(step.ip); got != step.want {
				t.Errorf("%s after %v: %d calls, want %d", step.ip, step.wait, got, step.want)
			}
		}
		if err := l.Check(caller(t, "10.0.0.1")); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v, want RESOURCE_EXHAUSTED", err)
		}
		// Peers without an address count as one client. A call without a peer does not come from outside.
		if err := l.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// After a flood of addresses, unused buckets are removed.
func TestLimiterForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1)
		for i := range 8 * maxIdle {
			l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(l.clients); n > 2*maxIdle {
			t.Errorf("%d buckets, want at most %d", n, 2*maxIdle)
		}
	})
}

func TestLimiterOff(t *testing.T) {
	if l := NewLimiter(0); l != nil {
		t.Error("a rate of 0 limits")
	}
	h := http.NotFoundHandler()
	w := httptest.NewRecorder()
	(*Limiter)(nil).LimitHTTP(h).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("got %d", w.Code)
	}
}

// Over HTTP, POST requests count and GET requests do not.
func TestLimitHTTP(t *testing.T) {
	h := NewLimiter(2).LimitHTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i, step := range []struct {
		method string
		want   int
	}{{"POST", 200}, {"POST", 200}, {"POST", 429}, {"GET", 200}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(step.method, "/", nil))
		if w.Code != step.want {
			t.Errorf("%d: %s: got %d, want %d", i, step.method, w.Code, step.want)
		}
	}
}

// During a flood, health checks and operators still get through.
func TestLimitLeavesAWay(t *testing.T) {
	l := limited{NewLimiter(1), NewControl(ControlOptions{}, nil, "x.Control")}
	ctx := caller(t, "10.0.0.1")
	handler := func(context.Context, any) (any, error) { return "ok", nil }
	for _, step := range []struct {
		method string
		want   codes.Code
	}{
		{"/x.Scoring/Predict", codes.OK},
		{"/x.Scoring/Predict", codes.ResourceExhausted},
		{"/x.Control/Abort", codes.OK},
		{"/grpc.health.v1.Health/Check", codes.OK},
		{"/x.ControlPanel/Predict", codes.ResourceExhausted},
	} {
		_, err := l.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: step.method}, handler)
		if status.Code(err) != step.want {
			t.Errorf("%s: got %v, want %v", step.method, err, step.want)
		}
		err = l.stream(nil, stream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: step.method}, func(any, grpc.ServerStream) error { return nil })
		if step.want == codes.ResourceExhausted && status.Code(err) != step.want {
			t.Errorf("%s as a stream: got %v, want %v", step.method, err, step.want)
		}
	}
}

type stream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

// An allowed call does not allocate.
func TestLimiterAllocatesNothing(t *testing.T) {
	l, ctx := NewLimiter(1e12), caller(t, "10.0.0.1")
	if n := testing.AllocsPerRun(1000, func() {
		if err := l.Check(ctx); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkLimiter(b *testing.B) {
	l, ctx := NewLimiter(1e12), caller(b, "10.0.0.1")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Check(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
