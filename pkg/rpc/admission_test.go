package rpc

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// admitted returns an admission with n open calls, and the function that ends them.
func admitted(t *testing.T, n int) (a *admission, calls []context.Context, end context.CancelFunc) {
	t.Helper()
	a = newAdmission([]string{"s.S"}, MaxMessage, prometheus.NewRegistry())
	ctx, end := context.WithCancel(t.Context())
	for range n {
		call, err := a.tap(ctx, &tap.Info{FullMethodName: "/s.S/M"})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	return a, calls, end
}

func TestOpenCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, calls, end := admitted(t, maxCalls)
		defer end()
		refused := func(method string) bool {
			ctx, err := a.tap(t.Context(), &tap.Info{FullMethodName: method})
			if err != nil {
				t.Fatal(err)
			}
			_, err = begin(ctx)
			if err != nil && status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("got %v, want RESOURCE_EXHAUSTED", err)
			}
			return err != nil
		}
		if !refused("/s.S/M") {
			t.Error("one too many was admitted")
		}
		// Calls of other services, such as reports and rollbacks, have separate slots.
		for i := range maxOthers + 1 {
			if got, want := refused("/other.S/M"), i == maxOthers; got != want {
				t.Fatalf("call %d of another service: refused %t, want %t", i, got, want)
			}
		}
		if got := testutil.ToFloat64(a.refused); got != 2 {
			t.Errorf("%v refusals counted, want 2", got)
		}
		// An answered call frees its slot, and so does one whose context ends.
		s, err := begin(calls[0])
		if err != nil {
			t.Fatal(err)
		}
		s.end()
		if got := a.own.open.Load(); got != maxCalls-1 {
			t.Errorf("one is answered: %d are open, want %d", got, maxCalls-1)
		}
		if refused("/s.S/M") {
			t.Error("the slot of a call that was answered is not free")
		}
		end()
		synctest.Wait()
		if open := a.own.open.Load(); open != 1 {
			t.Errorf("all but one have ended: %d are open", open)
		}
	})
}

func BenchmarkAdmission(b *testing.B) {
	a := newAdmission([]string{"s.S"}, MaxMessage, prometheus.NewRegistry())
	info := &tap.Info{FullMethodName: "/s.S/M"}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		ctx, err := a.tap(ctx, info)
		if err != nil {
			b.Fatal(err)
		}
		s, err := begin(ctx)
		if err != nil {
			b.Fatal(err)
		}
		s.end()
		cancel()
	}
}
