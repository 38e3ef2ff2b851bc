package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// onOwnConnection returns the context of a call on a new connection.
func onOwnConnection(ctx context.Context) context.Context {
	return peer.NewContext(ctx, &peer.Peer{LocalAddr: framedAddr{conn: &framed{}}})
}

// admitted returns an admission with n open calls, and the function that ends them.
func admitted(t *testing.T, n int) (c *admission, calls []context.Context, end context.CancelFunc) {
	t.Helper()
	c = newAdmission([]string{"s.S"}, MaxMessage, prometheus.NewRegistry())
	ctx, end := context.WithCancel(t.Context())
	for range n {
		call, err := c.tap(onOwnConnection(ctx), &tap.Info{FullMethodName: "/s.S/M"})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	return c, calls, end
}

func TestOpenCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, calls, end := admitted(t, maxCalls)
		defer end()
		one := &tap.Info{FullMethodName: "/s.S/M"}
		if _, err := c.tap(onOwnConnection(t.Context()), one); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("one too many: got %v, want RESOURCE_EXHAUSTED", err)
		}
		for i := range maxOthers + 1 {
			_, err := c.tap(onOwnConnection(t.Context()), &tap.Info{FullMethodName: "/other.S/M"})
			if want := i == maxOthers; (err != nil) != want {
				t.Fatalf("call %d of another service: got %v, want it refused: %t", i, err, want)
			}
		}
		for _, tt := range []struct {
			left  time.Duration
			early bool
		}{{time.Second, true}, {time.Hour, false}} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.left)
			ctx, err := c.tap(onOwnConnection(ctx), one)
			if early := err != nil; early != tt.early {
				t.Errorf("with %v left: got %v, want it refused early: %t", tt.left, err, tt.early)
			}
			if err == nil {
				if _, err := begun(ctx); status.Code(err) != codes.ResourceExhausted {
					t.Errorf("with %v left: got %v of its handler, want RESOURCE_EXHAUSTED", tt.left, err)
				}
			}
			cancel()
		}
		if got := testutil.ToFloat64(c.refused); got != 4 {
			t.Errorf("%v refusals counted, want 4", got)
		}
		// An answered call frees its slot, and so does one whose context ends.
		a, err := begun(calls[0])
		if err != nil {
			t.Fatal(err)
		}
		a.done()
		if got := c.own.open.Load(); got != maxCalls-1 {
			t.Errorf("one is answered: %d are open, want %d", got, maxCalls-1)
		}
		end()
		synctest.Wait()
		if open, others := c.own.open.Load(), c.others.open.Load(); open != 0 || others != maxOthers {
			t.Errorf("all have ended: %d are open and %d of the other service, want those alone", open, others)
		}
	})
}

// However many calls a few connections make, others get through.
func TestOpenCallsAreShared(t *testing.T) {
	c := newAdmission([]string{"s.S"}, MaxMessage, prometheus.NewRegistry())
	ctx, end := context.WithCancel(t.Context())
	defer end()
	one := &tap.Info{FullMethodName: "/s.S/M"}
	for range 4 {
		greedy := onOwnConnection(ctx)
		for range maxCalls {
			_, _ = c.tap(greedy, one)
		}
	}
	modest := onOwnConnection(ctx)
	for i := range 2 * fewCalls {
		if _, err := c.tap(modest, one); (err == nil) != (i < fewCalls) {
			t.Fatalf("call %d of another connection: %v, want %d answered", i, err, fewCalls)
		}
	}
}

// Calls of other services, such as reports, never take the place of decisions, and a few connections never take those of an
// operator.
func TestOtherCallsHaveTheirOwnRoom(t *testing.T) {
	c := newAdmission([]string{"s.S"}, MaxMessage, prometheus.NewRegistry())
	ctx, end := context.WithCancel(t.Context())
	defer end()
	for range 4 {
		greedy := onOwnConnection(ctx)
		for range maxCalls {
			_, _ = c.tap(greedy, &tap.Info{FullMethodName: "/other.S/M"})
		}
	}
	if _, err := c.tap(onOwnConnection(ctx), &tap.Info{FullMethodName: "/other.S/M"}); err != nil {
		t.Errorf("an operator: %v", err)
	}
	trader := onOwnConnection(ctx)
	for i := range maxStreams {
		if _, err := c.tap(trader, &tap.Info{FullMethodName: "/s.S/M"}); err != nil {
			t.Fatalf("decision %d: %v", i, err)
		}
	}
	if open := c.own.open.Load(); open != maxStreams {
		t.Errorf("%d are open: want the decisions alone", open)
	}
}

func BenchmarkAdmission(b *testing.B) {
	c := newAdmission([]string{"s.S"}, MaxMessage, prometheus.NewRegistry())
	info := &tap.Info{FullMethodName: "/s.S/M"}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		ctx, err := c.tap(ctx, info)
		if err != nil {
			b.Fatal(err)
		}
		a, err := begun(ctx)
		if err != nil {
			b.Fatal(err)
		}
		a.done()
		cancel()
	}
}
