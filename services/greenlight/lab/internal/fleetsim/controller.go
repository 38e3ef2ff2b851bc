package fleetsim

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// controller issues the records of a group, renews them and admits executors, until it is killed.
type controller struct {
	t       *truth
	carrier group.Carrier
	lease   time.Duration
	// shift is the error of its clock.
	shift time.Duration
	// group is the group of its records. A forger's messages must never be obeyed: its key is not trusted, or it belongs to
	// another group.
	group  string
	forger bool
	// stubborn means that it continues after another controller has replaced its record.
	stubborn bool
	// learns means that it begins above the record and the stop of the store.
	learns bool
	// resets means that its operator resets executors that have seen a higher revision.
	resets bool

	mu sync.Mutex
	s  *group.Session
	// above is the highest revision that it knows, terms are the terms of the next record, nil to renew.
	above uint64
	terms *fleetv1.Record
	// hung is until when it does nothing. late means that it signs before it hangs.
	hung time.Time
	late bool
	// reset is when each executor was reset.
	reset map[string]time.Time

	version uint64
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// terms returns the terms of a share: an odd share is what a model may decide behind a gate.
func terms(percent float64, lease time.Duration) *fleetv1.Record {
	r := &fleetv1.Record{Percent: percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(lease), Holder: "lab"}
	switch {
	case percent == 0:
		r.Mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF
	case math.Mod(percent, 2) == 1:
		r.Mode, r.Gate = executorv1.RolloutMode_ROLLOUT_MODE_GATED, &executorv1.Gate{AllSymbols: true}
	}
	return r
}

// start starts a controller whose first record has the share.
func (c *controller) start(ctx context.Context, signer *dsse.Signer, percent float64) {
	c.s = group.NewSession(c.group, "lab", signer, c.now())
	c.terms, c.reset = terms(percent, c.lease), map[string]time.Time{}
	ctx, c.cancel = context.WithCancel(ctx)
	c.done.Go(func() { c.renewals(ctx) })
	c.done.Go(func() {
		for ctx.Err() == nil {
			_ = c.carrier.Reports(ctx, func(raw []byte) { c.answer(ctx, raw) })
			traffic.Pause(ctx, time.Second)
		}
	})
}

func (c *controller) kill() {
	c.cancel()
	c.done.Wait()
}

// now is the time of its clock.
func (c *controller) now() time.Time { return time.Now().Add(c.shift) }

// change gives the next record the share.
func (c *controller) change(percent float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.terms = terms(percent, c.lease)
}

// hang makes it do nothing for a time.
func (c *controller) hang(d time.Duration, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hung, c.late = time.Now().Add(d), late
}

// hanging waits as long as it hangs.
func (c *controller) hanging(ctx context.Context, late bool) {
	c.mu.Lock()
	d := time.Duration(0)
	if c.late == late {
		d = time.Until(c.hung)
	}
	c.mu.Unlock()
	if d > 0 {
		traffic.Pause(ctx, d)
	}
}

// learn reads the highest revision of the store. Without an answer, it only knows its journal's.
func (c *controller) learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	record, version, err := c.carrier.Record(ctx)
	if err == nil {
		c.version = version
	}
	stops, _ := c.carrier.Stops(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, stored := range append(stops, record) {
		if m := c.t.known(stored); m != nil {
			c.above = max(c.above, m.revision)
		}
	}
}

func (c *controller) renewals(ctx context.Context) {
	if c.learns {
		c.learn(ctx)
	}
	for ctx.Err() == nil {
		c.hanging(ctx, false)
		if envelope := c.sign(); envelope != nil {
			c.hanging(ctx, true)
			if !c.put(ctx, envelope) && !c.stubborn {
				return
			}
		}
		traffic.Pause(ctx, c.lease/group.PollsPerLease)
	}
}

// sign returns the next record.
func (c *controller) sign() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r *fleetv1.Record
	var envelope []byte
	var err error
	if c.terms != nil {
		r, envelope, err = c.s.Change(c.terms, c.above, c.now())
		c.terms = nil
	} else {
		r, envelope, err = c.s.Renew(c.now())
	}
	if err != nil {
		return nil
	}
	c.above = r.GetRevision()
	c.issued(&message{kind: group.RecordMessage, envelope: envelope, record: r, session: c.s.ID()})
	return envelope
}

// issued records a message that executors may obey.
func (c *controller) issued(m *message) {
	if !c.forger {
		c.t.issued(m)
	}
}

// put replaces the record of the store, and reports whether no other controller holds it.
func (c *controller) put(ctx context.Context, envelope []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, c.lease/group.PollsPerLease)
	defer cancel()
	version, err := c.carrier.Put(ctx, envelope, c.version)
	if err == nil {
		c.version = version
		return true
	}
	if !errors.Is(err, group.ErrVersion) {
		return true
	}
	stored, version, err := c.carrier.Record(ctx)
	if err != nil {
		return true
	}
	if m := c.t.known(stored); m != nil && m.session != c.s.ID() && m.revision >= c.s.Last().GetRevision() && !c.stubborn {
		return false
	}
	if version, err = c.carrier.Put(ctx, envelope, version); err == nil {
		c.version = version
	}
	return true
}

// known returns the message with these bytes.
func (t *truth) known(envelope []byte) *message {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent[string(envelope)]
}

// answer admits the process of a report if necessary.
func (c *controller) answer(ctx context.Context, raw []byte) {
	c.hanging(ctx, false)
	c.hanging(ctx, true)
	r := &fleetv1.Report{}
	if err := proto.Unmarshal(raw, r); err != nil {
		return
	}
	m := &message{kind: group.AdmissionMessage, executor: r.GetExecutorId(), nonce: r.GetNonce(), session: c.s.ID()}
	c.mu.Lock()
	now := c.now()
	var err error
	switch last := c.s.Last(); {
	case last == nil:
	case c.resets && (r.GetRevision() > last.GetRevision() || r.GetTrouble() != "" && r.GetSession() == c.s.ID()) && now.Sub(c.reset[m.executor]) > resetPause:
		c.reset[m.executor] = now
		m.reset = true
		m.envelope, err = c.s.Command(&fleetv1.Admission{Reset_: true}, r, now)
	case c.s.Due(r, now):
		m.revision = last.GetRevision()
		m.envelope, err = c.s.Admit(r, now)
	}
	c.mu.Unlock()
	if err != nil || m.envelope == nil {
		return
	}
	c.issued(m)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = c.carrier.Admit(ctx, m.executor, m.envelope) // the next report asks again
}

// resetPause is the minimum time between two resets of an executor.
const resetPause = 6 * time.Second
