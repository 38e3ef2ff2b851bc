package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// crowdOf is a crowd of n calls that have come and not begun, each with its way to end.
func crowdOf(t *testing.T, n int) (c *crowd, calls []context.Context, end context.CancelFunc) {
	t.Helper()
	c = newCrowd("s.S", prometheus.NewRegistry())
	ctx, end := context.WithCancel(t.Context())
	for range n {
		call, err := c.tap(ctx, &tap.Info{FullMethodName: "/s.S/M"})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	return c, calls, end
}

func TestCrowdIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, calls, end := crowdOf(t, maxCrowd)
		defer end()
		one := &tap.Info{FullMethodName: "/s.S/M"}
		if _, err := c.tap(t.Context(), one); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one too many: got %v, want RESOURCE_EXHAUSTED", err)
		}
		if ctx, err := c.tap(t.Context(), &tap.Info{FullMethodName: "/other.S/M"}); err != nil || begin(ctx) != nil {
			t.Errorf("a call of another service: got %v", err)
		}
		for _, tt := range []struct {
			left  time.Duration
			early bool
		}{{time.Second, true}, {time.Hour, false}} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.left)
			ctx, err := c.tap(ctx, one)
			if early := err != nil; early != tt.early || !early && status.Code(begin(ctx)) != codes.ResourceExhausted {
				t.Errorf("with %v left: got %v, want it refused early: %t", tt.left, err, tt.early)
			}
			cancel()
		}
		if got := testutil.ToFloat64(c.refused); got != 3 {
			t.Errorf("%v refusals counted, want 3", got)
		}
		// A call that has begun makes room, once, and so does one that ended before.
		for range 2 {
			if err := begin(calls[0]); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.waiting.Load(); got != maxCrowd-1 {
			t.Errorf("one has begun: %d wait, want %d", got, maxCrowd-1)
		}
		end()
		synctest.Wait()
		if got := c.waiting.Load(); got != 0 {
			t.Errorf("all have ended: %d wait, want 0", got)
		}
	})
}

func TestBusy(t *testing.T) {
	c, _, end := crowdOf(t, busyCrowd)
	defer end()
	s := &Server{crowd: c}
	if s.Busy() || (&Server{}).Busy() {
		t.Error("busy without a crowd")
	}
	if _, err := c.tap(t.Context(), &tap.Info{FullMethodName: "/s.S/M"}); err != nil || !s.Busy() {
		t.Errorf("one more waits: busy %v, %v", s.Busy(), err)
	}
}

func BenchmarkCrowd(b *testing.B) {
	c := newCrowd("s.S", prometheus.NewRegistry())
	info := &tap.Info{FullMethodName: "/s.S/M"}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		ctx, err := c.tap(ctx, info)
		if err != nil || begin(ctx) != nil {
			b.Fatal(err)
		}
		cancel()
	}
}
