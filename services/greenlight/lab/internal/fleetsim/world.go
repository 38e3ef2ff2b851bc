package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// groupName is the name of the group.
const groupName = "lab"

// world is a group of executors, its controllers, and a carrier with an attacker on it.
type world struct {
	ctx  context.Context //nolint:containedctx // the schedule's context: everything that it starts ends with it
	t    *truth
	rng  *rand.Rand
	keys Keys

	lease, tick time.Duration
	// busy is set for a group in real time: on a busy machine, a renewal may take longer than a lease.
	busy bool
	// carrier returns a new end of the carrier, heal ends its faults, settle waits until everybody has acted.
	carrier func() (group.Carrier, error)
	heal    func()
	settle  func()

	// dir holds the state folders of the executors.
	dir       string
	executors []*executor
	// controllers are those running. share is the share of the last one.
	controllers []*controller
	share       float64
	// evil is the attacker's end.
	evil   group.Carrier
	echoes sync.WaitGroup
	quiet  context.CancelFunc
}

// Keys holds the operator's key, which executors trust, and another one.
type Keys struct{ Operator, Other *dsse.Signer }

// start starts the executors.
func (w *world) start(n int) error {
	var err error
	if w.evil, err = w.carrier(); err != nil {
		return err
	}
	for i := range n {
		c, err := w.carrier()
		if err != nil {
			return err
		}
		e := &executor{witness: w.t.witness(fmt.Sprintf("executor-%03d", i)), keys: w.keys.Operator.Public(), carrier: c}
		e.dir = filepath.Join(w.dir, e.id)
		if err := e.start(lost); err != nil {
			return err
		}
		w.executors = append(w.executors, e)
	}
	return nil
}

// play starts n executors, and runs events between two calms. All executors must reach a share within the time reach.
func (w *world) play(n int, reach time.Duration, events []event, count int, gap time.Duration) error {
	if err := w.start(n); err != nil {
		return err
	}
	w.calm(reach, true)
	w.storm(events, count, gap)
	w.calm(reach, w.rng.IntN(2) == 0)
	w.over()
	return nil
}

// control starts a controller. Its first record has the share.
func (w *world) control(c *controller, share float64) error {
	var err error
	if c.carrier, err = w.carrier(); err != nil {
		return err
	}
	c.t, c.lease = w.t, w.lease
	signer := w.keys.Operator
	if c.group == "" && c.forger {
		signer = w.keys.Other
	}
	if c.group == "" {
		c.group = groupName
	}
	if !c.forger {
		w.share = share
	}
	c.start(w.ctx, signer, share)
	w.controllers = append(w.controllers, c)
	return nil
}

// killControllers kills all controllers, and stops the attacker.
func (w *world) killControllers() int {
	n := len(w.controllers)
	for _, c := range w.controllers {
		c.kill()
	}
	w.controllers = nil
	if w.quiet != nil {
		w.quiet()
		w.echoes.Wait()
	}
	return n
}

// pass lets time pass, and checks every executor throughout. It returns early if done returns true. done may be nil.
func (w *world) pass(d time.Duration, done func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if done != nil && done() {
			return true
		}
		traffic.Pause(w.ctx, w.tick)
		w.check()
		if w.ctx.Err() != nil {
			return false
		}
	}
	return done != nil && done()
}

// check checks every executor now.
func (w *world) check() {
	w.settle()
	now := time.Now()
	for _, e := range w.executors {
		e.check(now)
	}
}

// at counts the executors at the share.
func (w *world) at(share float64) (n int) {
	now := time.Now()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	for _, e := range w.executors {
		if e.share(now) == share {
			n++
		}
	}
	return n
}

// calm ends all faults, starts a controller, and checks that all executors reach its share within the time, and keep it. The
// controller knows the highest issued revision, or has lost its journal.
func (w *world) calm(within time.Duration, journal bool) {
	w.killControllers()
	w.heal()
	c := &controller{learns: true, resets: true, stubborn: true}
	if journal {
		c.above = w.t.revision()
	}
	share := 1 + float64(w.rng.IntN(99))
	w.t.event("calm", fmt.Sprintf("a controller at %g %%, with its journal: %v", share, journal))
	if err := w.control(c, share); err != nil {
		w.notReached("the controller has not started: %v", err)
		return
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.resets = false // nobody resets executors that were aborted in a storm
	}()
	began := time.Now()
	all := func() bool { return w.at(share) == len(w.executors) }
	if !w.pass(within, all) {
		if w.ctx.Err() == nil {
			w.notReached("%d of %d executors are at %g %% after %v%s", w.at(share), len(w.executors), share, within, w.missing(share))
		}
		return
	}
	w.t.reached(time.Since(began))
	gone := func() bool { return !w.busy && !all() }
	if w.pass(w.lease/2, gone) {
		w.notReached("%d of %d executors are at %g %% although the lease is renewed%s", w.at(share), len(w.executors), share, w.missing(share))
	}
}

// missing describes an executor that is not at the share.
func (w *world) missing(share float64) string {
	now := time.Now()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	for _, e := range w.executors {
		if e.share(now) != share {
			return fmt.Sprintf("; %s is at %g %%: highest revision given %d, aborted up to %d, %d admissions", e.id, e.share(now), e.highest, e.held, len(e.admitted))
		}
	}
	return ""
}

func (w *world) notReached(format string, args ...any) {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	w.t.violated("all", NotReached, format, args...)
}

func (t *truth) revision() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.highest
}

func (t *truth) reached(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.ReachedS = max(t.res.ReachedS, d.Seconds())
}

// since returns the messages issued since then.
func (t *truth) since(from time.Time) (all []*message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.log {
		if !m.at.Before(from) {
			all = append(all, m)
		}
	}
	return all
}

// echo repeats the messages issued within the last d, one after the other, at their original pace.
func (w *world) echo(d time.Duration) int {
	began := time.Now()
	all := w.t.since(began.Add(-d))
	if w.quiet != nil {
		w.quiet()
	}
	var ctx context.Context
	ctx, w.quiet = context.WithCancel(w.ctx)
	w.echoes.Go(func() {
		for _, m := range all {
			traffic.Pause(ctx, time.Until(m.at.Add(d)))
			if ctx.Err() != nil {
				return
			}
			w.send(ctx, m)
		}
	})
	return len(all)
}

// send makes the attacker send a message.
func (w *world) send(ctx context.Context, m *message) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	switch m.kind {
	case group.RecordMessage:
		if _, version, err := w.evil.Record(ctx); err == nil {
			_, _ = w.evil.Put(ctx, m.envelope, version)
		}
	case group.AdmissionMessage:
		_ = w.evil.Admit(ctx, m.executor, m.envelope)
	default:
		_ = w.evil.Stop(ctx, m.stop, m.envelope)
	}
}

// over kills the controllers and repeats their messages: all executors must go to 0 % and stay there, see [witness.check].
func (w *world) over() {
	n := w.killControllers()
	w.t.event("end", fmt.Sprintf("%d controllers killed; their messages are sent again", n))
	w.echo(2 * w.lease)
	w.pass(w.lease+slack+w.t.settle, nil)
	if n := w.at(0); n < len(w.executors) && w.ctx.Err() == nil {
		w.notReached("%d of %d executors are not at 0 %% after the last controller has died", len(w.executors)-n, len(w.executors))
	}
	w.pass(w.lease, nil)
	w.killControllers()
}

// close ends everything, and removes the state folders.
func (w *world) close() error {
	w.killControllers()
	var errs []error
	for _, e := range w.executors {
		errs = append(errs, e.kill(w.ctx, false))
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// some returns a random subset of the executors, at least one.
func (w *world) some() []*executor {
	n := 1 + w.rng.IntN(len(w.executors))
	var all []*executor
	for _, i := range w.rng.Perm(len(w.executors))[:n] {
		all = append(all, w.executors[i])
	}
	return all
}
