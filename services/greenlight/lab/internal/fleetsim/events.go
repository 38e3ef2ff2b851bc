package fleetsim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// event is something that happens to the group. do returns a description for the schedule.
type event struct {
	kind string
	do   func(w *world) string
}

const day = 24 * time.Hour

// controllerEvents happen to controllers and executors, over any carrier.
func controllerEvents() []event {
	return []event{
		{"share changed", func(w *world) string {
			w.share = float64(w.rng.IntN(5) * 25)
			for _, c := range w.controllers {
				c.change(w.share)
			}
			return fmt.Sprintf("%d controllers, to %g %%", len(w.controllers), w.share)
		}},
		{"controller killed", func(w *world) string { return fmt.Sprint(w.killControllers()) }},
		{"controller killed, messages sent again", func(w *world) string {
			return fmt.Sprintf("%d killed, %d messages at their original pace", w.killControllers(), w.echo(w.lease+time.Duration(w.rng.Int64N(int64(w.lease)))))
		}},
		{"controller started", func(w *world) string { return w.controller(&controller{learns: true, above: w.t.revision()}) }},
		{"controller started without journal", func(w *world) string { return w.controller(&controller{learns: true}) }},
		{"controller doubled", func(w *world) string {
			for _, c := range w.controllers {
				c.stubborn = true
			}
			return w.controller(&controller{above: w.t.revision(), stubborn: true})
		}},
		{"controller hung", func(w *world) string {
			d, late := time.Duration(w.rng.Int64N(int64(3*w.lease))), w.rng.IntN(2) == 0
			for _, c := range w.controllers {
				c.hang(d, late)
			}
			return fmt.Sprintf("%d for %v, after it has signed: %v", len(w.controllers), d.Round(time.Millisecond), late)
		}},
		{"clock stepped", func(w *world) string {
			shift := []time.Duration{day, -day}[w.rng.IntN(2)]
			w.killControllers()
			return fmt.Sprintf("by %v: ", shift) + w.controller(&controller{above: w.t.revision(), learns: true, shift: shift})
		}},
		{"second record of a revision", func(w *world) string {
			// An old clock, so that the revision is not derived from the current time.
			above := w.t.revision()
			return w.controller(&controller{above: above - min(above, 1), shift: -365 * day, stubborn: true})
		}},
		{"controller with another key", func(w *world) string {
			return w.controller(&controller{above: w.t.revision(), forger: true, stubborn: true})
		}},
		{"controller of another group", func(w *world) string {
			return w.controller(&controller{above: w.t.revision(), forger: true, stubborn: true, group: "other"})
		}},
		{"executors restarted", func(w *world) string { return w.restart(kept) }},
		{"executors crashed", func(w *world) string { return w.restart(stale) }},
		{"executors restarted without state", func(w *world) string { return w.restart(lost) }},
		{"executors restarted with a damaged state", func(w *world) string { return w.restart(damaged) }},
		{"executors aborted", func(w *world) string {
			some := w.some()
			w.settle()
			for _, e := range some {
				if err := e.abort(); err != nil {
					return err.Error()
				}
			}
			return fmt.Sprintf("%d executors, each by itself", len(some))
		}},
		{"group aborted", func(w *world) string { return w.stop(fleetv1.StopKind_STOP_KIND_ABORT) }},
		{"group killed", func(w *world) string { return w.stop(fleetv1.StopKind_STOP_KIND_KILL) }},
	}
}

// controller starts a controller at a random share.
func (w *world) controller(c *controller) string {
	share := float64(1 + w.rng.IntN(100))
	if err := w.control(c, share); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("at %g %%, %d run", share, len(w.controllers))
}

// restart kills executors and restarts them.
func (w *world) restart(left state) string {
	some := w.some()
	w.settle()
	for _, e := range some {
		if err := e.kill(w.ctx, left == stale); err != nil {
			return err.Error()
		}
	}
	for _, e := range some {
		if err := e.start(left); err != nil {
			w.notReached("%s: %v", e.id, err)
		}
	}
	return fmt.Sprintf("%d executors", len(some))
}

// stop stops the group.
func (w *world) stop(kind fleetv1.StopKind) string {
	revision := max(1, w.t.revision())
	envelope, err := group.Stop(w.keys.Operator, groupName, "lab", kind, revision, "", time.Now())
	if err != nil {
		return err.Error()
	}
	m := &message{kind: group.StopMessage, envelope: envelope, revision: revision, stop: kind}
	w.t.issued(m)
	w.send(w.ctx, m)
	return fmt.Sprintf("up to revision %d", revision)
}

// storm runs events, one after the other.
func (w *world) storm(events []event, n int, gap time.Duration) {
	for range n {
		e := events[w.rng.IntN(len(events))]
		w.t.begin(e.kind)
		w.t.event(e.kind, e.do(w))
		w.check()
		if w.pass(time.Duration(1+w.rng.Int64N(int64(gap))), nil); w.ctx.Err() != nil {
			return
		}
	}
}

// random returns the random source of a schedule.
func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// begin counts what happens from now on for kind.
func (t *truth) begin(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kind = kind
}
