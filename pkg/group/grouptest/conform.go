package grouptest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Conform tests that a carrier meets the contract of [group.Carrier] when nothing fails. a and b are ends of the same empty
// carrier.
func Conform(t *testing.T, a, b group.Carrier) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	record := func(c group.Carrier, want string, version uint64) {
		t.Helper()
		got, at, err := c.Record(ctx)
		must("record", err)
		if string(got) != want || at != version {
			t.Errorf("got the record %q with version %d, want %q with %d", got, at, want, version)
		}
	}
	// watch returns what a watch takes, one message at a time.
	watch := func(c group.Carrier, executor string) <-chan string {
		taken := make(chan string)
		put := func(m string) {
			select {
			case taken <- m:
			case <-ctx.Done():
			}
		}
		running.Go(func() {
			err := c.Watch(ctx, executor, func(k group.Kind, data []byte) { put([]string{"record ", "admission ", "stop "}[k] + string(data)) })
			if ctx.Err() == nil {
				t.Errorf("the watch has ended: %v", err)
				close(taken)
			}
		})
		return taken
	}
	next := func(from <-chan string, want ...string) {
		t.Helper()
		var got []string
		for range want {
			got = append(got, <-from)
		}
		slices.Sort(got) // kinds may overtake each other
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("taken %q, want %q", got, want)
		}
	}
	record(a, "", 0)
	stops := func(c group.Carrier, want ...string) {
		t.Helper()
		all, err := c.Stops(ctx)
		must("stops", err)
		var got []string
		for _, s := range all {
			got = append(got, string(s))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got the stops %q, want %q", got, want)
		}
	}
	stops(a)
	first, err := a.Put(ctx, []byte("one"), 0)
	must("put", err)
	record(a, "one", first)
	record(b, "one", first)
	for _, version := range []uint64{0, first + 100} {
		if _, err := b.Put(ctx, []byte("other"), version); !errors.Is(err, group.ErrVersion) {
			t.Errorf("put with version %d: got %v, want ErrVersion", version, err)
		}
	}
	seen, other := watch(b, "x"), watch(b, "y")
	next(seen, "record one")
	next(other, "record one")
	second, err := b.Put(ctx, []byte("two"), first)
	must("put", err)
	record(a, "two", second)
	next(seen, "record two")
	next(other, "record two")
	must("admit", a.Admit(ctx, "x", []byte("welcome")))
	next(seen, "admission welcome")
	must("stop", a.Stop(ctx, fleetv1.StopKind_STOP_KIND_KILL, []byte("halt")))
	// A stop is stored and sent, so it may come twice.
	if got := <-seen; got != "stop halt" {
		t.Errorf("got %q", got)
	}
	if got := <-other; got != "stop halt" {
		t.Errorf("got %q: an admission of another executor?", got)
	}
	stops(b, "halt")
	// Later aborts replace earlier ones, but not the kill.
	must("stop", b.Stop(ctx, fleetv1.StopKind_STOP_KIND_ABORT, []byte("first abort")))
	must("stop", a.Stop(ctx, fleetv1.StopKind_STOP_KIND_ABORT, []byte("abort")))
	stops(a, "halt", "abort")
	stops(b, "halt", "abort")
	next(watch(a, "z"), "record two", "stop halt", "stop abort")
	signer, _ := keytest.New(t)
	abort := func(revision uint64) string {
		envelope, err := group.Stop(signer, "desk-a", "test", fleetv1.StopKind_STOP_KIND_ABORT, revision, "why", time.Now())
		must("sign", err)
		return string(envelope)
	}
	low, middle, high := abort(100), abort(200), abort(300)
	for _, s := range []struct{ sent, stored string }{{low, low}, {high, high}, {middle, high}, {high, high}, {"abort", "abort"}} {
		must("stop", b.Stop(ctx, fleetv1.StopKind_STOP_KIND_ABORT, []byte(s.sent)))
		stops(a, "halt", s.stored)
	}
	// A kill is removed unless it is another one.
	must("drop", a.DropKill(ctx, []byte("another kill")))
	stops(b, "halt", "abort")
	must("drop", a.DropKill(ctx, []byte("halt")))
	stops(b, "abort")
	must("drop", b.DropKill(ctx, []byte("halt")))
	must("stop", b.Stop(ctx, fleetv1.StopKind_STOP_KIND_KILL, []byte("halt")))
	stops(a, "halt", "abort")

	for _, key := range []string{"1", "2", "1"} {
		must("blocks", a.PublishBlocks(ctx, "x", key, []byte("block "+key)))
	}
	must("blocks", a.PublishBlocks(ctx, "y", "3", []byte("block 3")))
	var blocks []string
	must("blocks", b.Blocks(ctx, func(data []byte) { blocks = append(blocks, string(data)) }))
	if want := []string{"block 1", "block 2", "block 3"}; !slices.Equal(blocks, want) {
		t.Errorf("got %q, want %q", blocks, want)
	}

	reports := make(chan string)
	running.Go(func() {
		err := b.Reports(ctx, func(data []byte) {
			select {
			case reports <- string(data):
			case <-ctx.Done():
			}
		})
		if ctx.Err() == nil {
			t.Errorf("the reports have ended: %v", err)
		}
	})
	// The first reports may be lost before the reader has started.
	for got := ""; got == ""; {
		must("report", a.PublishReport(ctx, "x", []byte("alive")))
		select {
		case got = <-reports:
		default:
		}
	}
	must("report", a.PublishReport(ctx, "y", []byte("last")))
	for got := ""; got != "last"; {
		if got = <-reports; got != "alive" && got != "last" {
			t.Errorf("got the report %q", got)
		}
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, _, err := a.Record(ended); err == nil {
		t.Error("a call does not end with its context")
	}
	if _, err := a.Put(ended, []byte("three"), second); err == nil {
		t.Error("a put does not end with its context")
	}
}
