package grouptest_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
)

func TestNetworkConforms(t *testing.T) {
	n := grouptest.NewNetwork(1)
	grouptest.Conform(t, n.Carrier(), n.Carrier())
}

// watching counts what a watch takes, until the test ends.
func watching(t *testing.T, c *grouptest.Carrier) (counts func() map[string]int, failed chan error) {
	t.Helper()
	var mu sync.Mutex
	taken := map[string]int{}
	failed = make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	take := func(_ group.Kind, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		taken[string(data)]++
	}
	go func() { failed <- c.Watch(ctx, "x", take) }()
	counts = func() map[string]int {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(taken)
	}
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		synctest.Wait()
	})
	return counts, failed
}

// Every fault has its documented effect and can be healed.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := grouptest.NewNetwork(1)
		a, b := n.Carrier(), n.Carrier()
		counts, failed := watching(t, b)
		version := uint64(0)
		put := func(data string) {
			t.Helper()
			var err error
			if version, err = a.Put(t.Context(), []byte(data), version); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		stored := func(c *grouptest.Carrier) string {
			t.Helper()
			got, _, err := c.Record(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return string(got)
		}
		n.SetFaults(grouptest.Faults{Lose: 1})
		put("lost")
		n.SetFaults(grouptest.Faults{Repeat: 1})
		put("twice")
		n.SetFaults(grouptest.Faults{Delay: time.Minute})
		put("late")
		if counts()["lost"] != 0 || counts()["twice"] != 2 || counts()["late"] != 0 {
			t.Errorf("taken %v", counts())
		}
		time.Sleep(time.Minute)
		if counts()["late"] != 1 {
			t.Errorf("taken %v", counts())
		}
		n.SetFaults(grouptest.Faults{Fail: 1})
		done := 0
		for range 100 {
			if _, err := a.Put(t.Context(), []byte("failed"), version); err == nil {
				t.Error("a call that must fail succeeds")
			} else if errors.Is(err, group.ErrVersion) {
				done++
			}
		}
		if n.Heal(); done == 0 || stored(b) != "failed" {
			t.Errorf("of 100 failed calls none was done before it failed: %q", stored(b))
		}
		b.Stall()
		_, version, _ = a.Record(t.Context())
		put("stalled")
		if counts()["stalled"] != 0 || stored(b) != "stalled" {
			t.Errorf("a stalled watch takes %v", counts())
		}
		b.Hang()
		short, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, _, err := b.Record(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hung call: %v", err)
		}
		b.Heal()
		n.Split(b)
		put("first half")
		if stored(a) != "first half" || stored(b) != "stalled" || counts()["first half"] != 0 {
			t.Errorf("the halves have %q and %q", stored(a), stored(b))
		}
		n.Join()
		if stored(b) != "first half" {
			t.Errorf("joined: %q", stored(b))
		}
		for range 100 {
			n.Replay()
		}
		if counts()["lost"] == 0 || counts()["first half"] == 0 {
			t.Errorf("replays: %v", counts())
		}
		before := len(counts())
		n.Forge()
		if len(counts()) != before+1 {
			t.Errorf("no forged message has come: %v", counts())
		}
		n.Rollback()
		if _, at, _ := a.Record(t.Context()); at >= version {
			t.Errorf("rolled back to version %d of %d", at, version)
		}
		n.Wipe()
		if stored(a) != "" {
			t.Errorf("wiped: %q", stored(a))
		}
		b.Cut()
		if _, _, err := b.Record(t.Context()); err == nil {
			t.Error("a call through a cut network succeeds")
		}
		if err := <-failed; err == nil {
			t.Error("a watch through a cut network ends without an error")
		}
	})
}

// A schedule with all faults ends, whatever happens in it.
func TestChaos(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			n := grouptest.NewNetwork(seed)
			a, b := n.Carrier(), n.Carrier()
			watching(t, b)
			for range 200 {
				n.Chaos()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, version, _ := a.Record(ctx)
				_, _ = a.Put(ctx, []byte("x"), version)
				cancel()
			}
			n.Heal()
			if _, _, err := b.Record(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
