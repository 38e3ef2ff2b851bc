// Package fleetsim tests what a group of executors does when its carrier or its operator fails. It simulates groups with an
// in-memory carrier that injects every kind of fault, and runs real groups with NATS servers.
//
// A witness of each executor checks every schedule. It shares no code with [group.Follower]. It knows what was issued when,
// and what the executor was given.
package fleetsim

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Options describe the schedules to simulate.
type Options struct {
	FirstSeed uint64
	Seeds     int
	Executors int
	Keys      Keys
	// Dir holds state folders, a few at a time.
	Dir string
	// Progress is called after every schedule.
	Progress func(done, all int)
}

const (
	// simLease is the lease of simulated records: long enough that a schedule of several leases has few renewals.
	simLease = 12 * time.Second
	// simTick is the simulated time between two checks of all executors.
	simTick = 250 * time.Millisecond
	// simEvents is the number of events in a schedule, simGap the longest time between two.
	simEvents = 10
	simGap    = 8 * time.Second
	// simReach is how long all executors may take to reach a share while nothing goes wrong. It covers the backoff of a watch,
	// a report, and messages that were delayed by 40 s.
	simReach = time.Minute
)

// Simulate simulates groups of executors, each with a schedule determined by its seed.
func Simulate(ctx context.Context, o Options) (*Result, error) {
	testing.Init() // what a bubble of synctest needs
	return o.schedules(ctx, runtime.GOMAXPROCS(0), simLease, func(seed uint64) (*Result, error) { return simulate(o, seed), nil })
}

// schedules runs the schedule of each seed, several in parallel, and adds up the results.
func (o Options) schedules(ctx context.Context, atOnce int, lease time.Duration, run func(seed uint64) (*Result, error)) (*Result, error) {
	sum := newResult()
	sum.FirstSeed, sum.Executors, sum.LeaseS = o.FirstSeed, o.Executors, lease.Seconds()
	began := time.Now()
	var mu sync.Mutex
	all := rig.Trials{N: o.Seeds, AtOnce: atOnce, Progress: o.Progress, Every: 1}
	err := all.Run(ctx, func(i int) error {
		res, err := run(o.FirstSeed + uint64(i))
		mu.Lock()
		defer mu.Unlock()
		sum.add(res)
		return err
	})
	sum.TookS = time.Since(began).Seconds()
	return sum, err
}

// simulate simulates one group.
func simulate(o Options, seed uint64) (res *Result) {
	synctest.Test(new(testing.T), func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		net := grouptest.NewNetwork(seed)
		w := &world{
			ctx: ctx, t: newTruth(o.Keys.Operator.Public(), simLease, 0, seed), rng: random(seed), keys: o.Keys, lease: simLease, tick: simTick,
			dir: filepath.Join(o.Dir, fmt.Sprint("seed-", seed)), carrier: func() (group.Carrier, error) { return net.Carrier(), nil },
			heal: net.Heal, settle: synctest.Wait,
		}
		defer func() {
			cancel()
			if err := w.close(); err != nil {
				w.notReached("%v", err)
			}
			synctest.Wait()
			res = w.t.result()
		}()
		if err := w.play(o.Executors, simReach, append(controllerEvents(), networkEvents(net)...), simEvents, simGap); err != nil {
			w.notReached("%v", err)
		}
	})
	return res
}

// networkEvents are the faults of the in-memory carrier.
func networkEvents(net *grouptest.Network) []event {
	some := func(w *world) (ends []*grouptest.Carrier) {
		for _, e := range w.some() {
			ends = append(ends, e.carrier.(*grouptest.Carrier)) //nolint:forcetypeassert // all are
		}
		return ends
	}
	executors := func(do func(*grouptest.Carrier)) func(w *world) string {
		return func(w *world) string {
			ends := some(w)
			for _, c := range ends {
				do(c)
			}
			return fmt.Sprintf("%d executors", len(ends))
		}
	}
	controllers := func(do func(*grouptest.Carrier)) func(w *world) string {
		return func(w *world) string {
			for _, c := range w.controllers {
				do(c.carrier.(*grouptest.Carrier)) //nolint:forcetypeassert // all are
			}
			return fmt.Sprintf("%d controllers", len(w.controllers))
		}
	}
	times := func(w *world, what string, do func()) string {
		n := 1 + w.rng.IntN(100)
		for range n {
			do()
		}
		return fmt.Sprint(n, what)
	}
	faults := func(f func(w *world) grouptest.Faults) func(w *world) string {
		return func(w *world) string {
			now := f(w)
			net.SetFaults(now)
			return fmt.Sprintf("%+v", now)
		}
	}
	return []event{
		{"executors cut off", executors((*grouptest.Carrier).Cut)},
		{"executors' calls hang", executors((*grouptest.Carrier).Hang)},
		{"watches stalled", executors((*grouptest.Carrier).Stall)},
		{"controller cut off", controllers((*grouptest.Carrier).Cut)},
		{"controller's calls hang", controllers((*grouptest.Carrier).Hang)},
		{"network split", func(w *world) string {
			other := some(w)
			net.Split(other...)
			return fmt.Sprintf("%d executors without their controller", len(other))
		}},
		{"network split, controller doubled", func(w *world) string {
			other := some(w)
			what := w.controller(&controller{above: w.t.revision()})
			net.Split(append(other, w.controllers[len(w.controllers)-1].carrier.(*grouptest.Carrier))...) //nolint:forcetypeassert // all are
			return fmt.Sprintf("%d executors with a controller %s", len(other), what)
		}},
		{"network healed", func(*world) string { net.Heal(); return "all" }},
		{"messages lost", faults(func(w *world) grouptest.Faults { return grouptest.Faults{Lose: w.rng.Float64()} })},
		{"messages repeated", faults(func(w *world) grouptest.Faults { return grouptest.Faults{Repeat: w.rng.Float64()} })},
		{"messages late, in another order", faults(func(w *world) grouptest.Faults {
			return grouptest.Faults{Delay: time.Duration(1 + w.rng.Int64N(int64(40*time.Second))), Repeat: w.rng.Float64() / 2}
		})},
		{"calls fail", faults(func(w *world) grouptest.Faults { return grouptest.Faults{Fail: w.rng.Float64()} })},
		{"store wiped", func(*world) string { net.Wipe(); return "all" }},
		{"store rolled back", func(*world) string { net.Rollback(); return "to a random state" }},
		{"messages sent again", func(w *world) string { return times(w, " messages", net.Replay) }},
		{"messages changed", func(w *world) string { return times(w, " messages, a byte each", net.Forge) }},
	}
}
