package grouptest

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/group"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Carrier is one end of a [Network]. It implements [group.Carrier].
type Carrier struct {
	net *Network
	// The lock of the network guards the rest.
	half    int
	state   state
	watches []*watch
}

var _ group.Carrier = (*Carrier)(nil)

// state is the fault of one end.
type state int

const (
	works state = iota
	cut
	stalled
	hung
)

// Cut makes calls fail, and ends watches with an error.
func (c *Carrier) Cut() {
	c.set(cut)
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for _, w := range c.watches {
		close(w.failed)
	}
	c.watches = nil
}

// Stall makes watches silent, while calls work.
func (c *Carrier) Stall() { c.set(stalled) }

// Hang makes calls wait until their context ends, and watches silent.
func (c *Carrier) Hang() { c.set(hung) }

// Heal ends the fault.
func (c *Carrier) Heal() { c.set(works) }

func (c *Carrier) set(s state) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.state = s
}

var errFailed = errors.New("the call failed")

// enter begins a call, which may fail immediately or hang.
func (c *Carrier) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	switch c.state {
	case hung:
		c.net.mu.Unlock()
		<-ctx.Done()
		c.net.mu.Lock()
		return ctx.Err()
	case cut:
		return errCut
	default:
		return nil
	}
}

// call makes a call, which may fail before or after it has changed something.
func (c *Carrier) call(ctx context.Context, do func(*store) error) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	fails, done := c.net.rng.Float64() < c.net.faults.Fail, c.net.rng.IntN(2) == 0
	if fails && !done {
		return errFailed
	}
	if err := do(&c.net.stores[c.half]); err != nil {
		return err
	}
	if fails {
		return errFailed
	}
	return nil
}

// Watch implements [group.Carrier].
func (c *Carrier) Watch(ctx context.Context, executor string, take func(group.Kind, []byte)) error {
	w := &watch{executor: executor, wake: make(chan struct{}, 1), failed: make(chan struct{})}
	first := func(s *store) (all []message) {
		if s.record != nil {
			all = append(all, message{kind: group.RecordMessage, data: s.record})
		}
		for _, stop := range s.stops() {
			all = append(all, message{kind: group.StopMessage, data: stop})
		}
		return all
	}
	return c.run(ctx, w, first, func(m message) { take(m.kind, bytes.Clone(m.data)) })
}

// Record implements [group.Carrier].
func (c *Carrier) Record(ctx context.Context) (envelope []byte, version uint64, err error) {
	err = c.call(ctx, func(s *store) error {
		envelope, version = bytes.Clone(s.record), s.version
		return nil
	})
	return envelope, version, err
}

// Stops implements [group.Carrier].
func (c *Carrier) Stops(ctx context.Context) (all [][]byte, err error) {
	err = c.call(ctx, func(s *store) error {
		for _, stop := range s.stops() {
			all = append(all, bytes.Clone(stop))
		}
		return nil
	})
	return all, err
}

// Put implements [group.Carrier].
func (c *Carrier) Put(ctx context.Context, envelope []byte, version uint64) (now uint64, err error) {
	err = c.call(ctx, func(s *store) error {
		if s.version != version {
			return group.ErrVersion
		}
		s.version++
		s.record, now = bytes.Clone(envelope), s.version
		c.send(message{kind: group.RecordMessage, data: s.record})
		return nil
	})
	return now, err
}

// send keeps a message for executors and delivers it. The caller holds the lock.
func (c *Carrier) send(m message) {
	c.net.keep(m)
	c.net.deliver(m, c)
}

// Admit implements [group.Carrier].
func (c *Carrier) Admit(ctx context.Context, executor string, envelope []byte) error {
	return c.call(ctx, func(*store) error {
		c.send(message{group.AdmissionMessage, executor, bytes.Clone(envelope)})
		return nil
	})
}

// Stop implements [group.Carrier].
func (c *Carrier) Stop(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error {
	return c.call(ctx, func(s *store) error {
		stop := bytes.Clone(envelope)
		if kind == fleetv1.StopKind_STOP_KIND_KILL {
			s.kill = stop
		} else if !group.Covers(s.abort, stop) {
			s.abort = stop
		}
		c.send(message{kind: group.StopMessage, data: stop})
		return nil
	})
}

// DropKill implements [group.Carrier].
func (c *Carrier) DropKill(ctx context.Context, envelope []byte) error {
	return c.call(ctx, func(s *store) error {
		if bytes.Equal(s.kill, envelope) {
			s.kill = nil
		}
		return nil
	})
}

// PublishReport implements [group.Carrier].
func (c *Carrier) PublishReport(ctx context.Context, _ string, report []byte) error {
	return c.call(ctx, func(*store) error {
		for _, to := range c.net.ends {
			if to.half != c.half || to.state != works {
				continue
			}
			for _, w := range to.watches {
				if w.reports {
					c.net.send(w, message{data: bytes.Clone(report)})
				}
			}
		}
		return nil
	})
}

// Reports implements [group.Carrier].
func (c *Carrier) Reports(ctx context.Context, take func([]byte)) error {
	w := &watch{reports: true, wake: make(chan struct{}, 1), failed: make(chan struct{})}
	return c.run(ctx, w, func(*store) []message { return nil }, func(m message) { take(m.data) })
}

// PublishBlocks implements [group.Carrier].
func (c *Carrier) PublishBlocks(ctx context.Context, _, key string, blocks []byte) error {
	return c.call(ctx, func(s *store) error {
		if !slices.ContainsFunc(s.blocks, func(b block) bool { return b.key == key }) {
			s.blocks = append(s.blocks, block{key, bytes.Clone(blocks)})
		}
		return nil
	})
}

// Blocks implements [group.Carrier].
func (c *Carrier) Blocks(ctx context.Context, take func([]byte)) error {
	var all []block
	err := c.call(ctx, func(s *store) error {
		all = slices.Clone(s.blocks)
		return nil
	})
	for _, b := range all {
		take(b.data)
	}
	return err
}
