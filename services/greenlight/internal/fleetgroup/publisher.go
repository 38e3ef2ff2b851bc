package fleetgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/text"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// TakenError means that somebody else holds, has replaced or has stopped the record of a group.
type TakenError struct {
	Group, Reason string
	// Successor reports whether the group now has another record, signed with this operator's key, that executors obey.
	Successor bool
}

// Error implements error.
func (e *TakenError) Error() string { return fmt.Sprintf("group %s: %s", e.Group, e.Reason) }

// Publisher is the only controller of a group: it issues the record, renews it, and admits the executors that report. Only the
// admissions run in their own goroutine. Since an admission renews nothing, the lease of every executor ends if the caller
// hangs.
type Publisher struct {
	g *Group
	// version is the version of the stored record, and known is its revision. Anything that somebody else stores later has a
	// higher revision.
	version, known uint64
	// above is the revision that new revisions must exceed.
	above uint64
	// before is the revision of the record that was stored when this process became the controller. old has the ids of the stops
	// that were stored when it began to wait for that.
	before uint64
	old    map[string]bool

	mu      sync.Mutex // guards session
	session *group.Session

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Claim describes a controller that wants to publish.
type Claim struct {
	// Holder is the id of its run. A controller of the same run may take over immediately.
	Holder string
	// Above is the highest revision that the run has issued.
	Above uint64
	// Lease is how long to watch a record that cannot be verified.
	Lease time.Duration
	// Waiting, which may be nil, is called with a description of what Publish waits for.
	Waiting func(string)
}

// Publish makes this process the controller of the group. If another controller holds the record, Publish watches whether the
// record is still renewed. If it is, the error is a [*TakenError] that names the holder; otherwise Publish returns once the
// lease must have ended. It publishes nothing yet.
func (g *Group) Publish(ctx context.Context, c Claim) (*Publisher, error) {
	if g.Signer == nil {
		return nil, ErrNoKey
	}
	stops, err := g.storedStops(ctx) // a stop that arrives while it waits is for this process
	if err != nil {
		return nil, fmt.Errorf("group %s: its stops cannot be read: %w", g.Group(), err)
	}
	version, revision, err := g.free(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		g: g, version: version, known: revision, above: max(revision, c.Above), before: revision, old: map[string]bool{},
		session: group.NewSession(g.Group(), Issuer(), g.Signer, time.Now()),
	}
	for _, s := range stops {
		p.above, p.old[s.GetId()] = max(p.above, s.GetRevision()), true
	}
	admit, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	heard := make(chan string, maxMembers)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.heard != nil {
		cancel()
		return nil, errors.New("this process is already the controller of the group")
	}
	g.heard = heard
	p.done.Go(func() { p.admissions(admit, heard) })
	return p, nil
}

// free waits until nobody else holds the record, and returns its version and revision.
func (g *Group) free(ctx context.Context, c Claim) (version, revision uint64, err error) {
	var seen []byte
	var since time.Time
	for {
		envelope, version, err := g.stored(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("group %s: its record cannot be read: %w", g.Group(), err)
		}
		r, lease := (*fleetv1.Record)(nil), c.Lease
		if len(envelope) > 0 {
			if r, err = group.OpenRecord(g.keys(), envelope, g.Group()); err == nil {
				lease = r.GetLease().AsDuration()
			}
		}
		now := time.Now()
		switch {
		case len(envelope) == 0, r != nil && group.Idle(r), r != nil && c.Holder != "" && r.GetHolder() == c.Holder:
			return version, r.GetRevision(), nil
		case seen == nil:
			seen, since = envelope, now
			if c.Waiting != nil {
				c.Waiting(fmt.Sprintf("group %s is %s: waiting up to %v for a renewal", g.Group(), heldBy(r), lease))
			}
		case !bytes.Equal(seen, envelope):
			return 0, 0, &TakenError{g.Group(), "it is " + heldBy(r), r != nil}
		case now.Sub(since) >= lease:
			return version, r.GetRevision(), nil
		}
		if !traffic.Pause(ctx, max(100*time.Millisecond, lease/group.PollsPerLease/2)) {
			return 0, 0, ctx.Err()
		}
	}
}

// heldBy describes who holds a record; nil is a record that this operator's key has not signed.
func heldBy(r *fleetv1.Record) string {
	if r == nil {
		return "held by a record that was signed with another key"
	}
	clean := func(s string) string { return text.Clean(s, maxName) }
	return fmt.Sprintf("held by %s (%s) at %g %%, %s, revision %d: %q", clean(r.GetHolder()), clean(r.GetIssuer()), r.GetPercent(), fleet.Mode(r.GetMode()),
		r.GetRevision(), text.Clean(r.GetReason(), maxReason))
}

// stored returns the record in the store.
func (g *Group) stored(ctx context.Context) ([]byte, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return g.Carrier.Record(ctx)
}

// record returns the record in the store; nil without one. It returns an error unless the record was signed with this
// operator's key.
func (g *Group) record(ctx context.Context) (*fleetv1.Record, error) {
	envelope, _, err := g.stored(ctx)
	if err != nil || len(envelope) == 0 {
		return nil, err
	}
	return group.OpenRecord(g.keys(), envelope, g.Group())
}

// storedStop is a stop in the store. A foreign stop is a kill that was signed with another key: executors that trust that key
// obey it, but only its kind and its id are used here.
type storedStop struct {
	*fleetv1.Stop

	envelope []byte
	foreign  bool
}

// storedStops returns the stops in the store, except aborts signed with other keys. With an error it returns those that can be
// read.
func (g *Group) storedStops(ctx context.Context) ([]storedStop, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	envelopes, err := g.Carrier.Stops(ctx)
	var all []storedStop
	for _, e := range envelopes {
		s, untrusted := group.NewFollower(group.Member{Group: g.Group(), Keys: g.keys()}, group.State{}).Stop(e, time.Now())
		if untrusted == nil {
			all = append(all, storedStop{s, e, false})
		} else if s = group.PeekStop(e); s.GetKind() == fleetv1.StopKind_STOP_KIND_KILL && s.GetGroup() == g.Group() {
			all = append(all, storedStop{&fleetv1.Stop{Kind: s.GetKind(), Id: s.GetId(), Issuer: "somebody with another key"}, e, true})
		}
	}
	return all, err
}

// Session returns the id of the session.
func (p *Publisher) Session() string { return p.session.ID() }

// Last returns the newest record; nil before the first.
func (p *Publisher) Last() *fleetv1.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session.Last()
}

// stopped returns a [*TakenError] if somebody has stopped the group since this process became its controller. The revision of
// the stop does not matter, because the stop may have been sent while this process changed the record. An abort of earlier
// records does not count: that is how an earlier controller ends. Any other error is the error of the call.
func (p *Publisher) stopped(ctx context.Context) error {
	stops, err := p.g.storedStops(ctx)
	for _, s := range stops {
		if p.old[s.GetId()] || s.GetKind() == fleetv1.StopKind_STOP_KIND_ABORT && s.GetRevision() <= p.before {
			continue
		}
		return &TakenError{Group: p.g.Group(), Reason: fmt.Sprintf("%s has stopped it: %q", text.Clean(s.GetIssuer(), maxName), text.Clean(s.GetReason(), maxReason))}
	}
	return err
}

// Change publishes a record with the terms. It calls keep with the revision before it publishes. The error is a [*TakenError],
// also after somebody has sent a stop, unless the terms let no executor do anything. Otherwise it is the error of a call,
// which may have succeeded nevertheless: repeat it with [Publisher.Renew] if there is a new record, and with Change if not.
func (p *Publisher) Change(ctx context.Context, terms *fleetv1.Record, keep func(revision uint64)) error {
	if !group.Idle(terms) {
		if err := p.stopped(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	r, envelope, err := p.session.Change(terms, p.above, time.Now())
	p.mu.Unlock()
	if err != nil {
		return err
	}
	keep(r.GetRevision())
	return p.put(ctx, envelope)
}

// Renew publishes the newest record again, with the next renewal number. The errors are those of [Publisher.Change].
func (p *Publisher) Renew(ctx context.Context) error {
	if err := p.Stopped(ctx); err != nil {
		return err
	}
	return p.Repeat(ctx)
}

// Stopped returns a [*TakenError] if somebody has stopped the group since this process became its controller.
func (p *Publisher) Stopped(ctx context.Context) error {
	if taken := (*TakenError)(nil); errors.As(p.stopped(ctx), &taken) { // failing to read the stops must not end the leases
		return taken
	}
	return nil
}

// Repeat is like [Publisher.Renew], but also works after a stop.
func (p *Publisher) Repeat(ctx context.Context) error {
	p.mu.Lock()
	_, envelope, err := p.session.Renew(time.Now())
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.put(ctx, envelope)
}

// put replaces the record unless somebody else has replaced it. In that case it also ends the admissions, which would take
// executors away from the other controller.
func (p *Publisher) put(ctx context.Context, envelope []byte) error {
	err := p.replace(ctx, envelope)
	if taken := (*TakenError)(nil); errors.As(err, &taken) {
		p.cancel()
	}
	return err
}

func (p *Publisher) replace(ctx context.Context, envelope []byte) error {
	version, err := p.g.Carrier.Put(ctx, envelope, p.version)
	if err == nil {
		p.wrote(version)
		return nil
	}
	stored, version, unread := p.g.stored(ctx)
	if unread != nil {
		return err
	}
	if bytes.Equal(stored, envelope) { // the call succeeded, but its answer was lost
		p.wrote(version)
		return nil
	}
	if version == p.version {
		return err
	}
	// An earlier call of this session succeeded late, or the store lost records and shows older ones, which are no longer in
	// force.
	if len(stored) > 0 {
		r, err := group.OpenRecord(p.g.keys(), stored, p.g.Group())
		if err != nil || r.GetSession() != p.session.ID() && r.GetRevision() > p.known {
			return &TakenError{p.g.Group(), "it is " + heldBy(r), r != nil}
		}
	}
	version, err = p.g.Carrier.Put(ctx, envelope, version)
	if errors.Is(err, group.ErrVersion) {
		return fmt.Errorf("group %s: another controller writes its record: %w", p.g.Group(), err)
	}
	if err == nil {
		p.wrote(version)
	}
	return err
}

// wrote records that the newest record is stored.
func (p *Publisher) wrote(version uint64) {
	p.version, p.known = version, p.Last().GetRevision()
}

// admitPause is the minimum time between two admissions of one executor.
const admitPause = time.Second

// admissions admits executors when they report.
func (p *Publisher) admissions(ctx context.Context, heard <-chan string) {
	last := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-heard:
			now := time.Now()
			m, ok := p.g.Member(id, now)
			if !ok || m.Err != nil || now.Sub(last[id]) < admitPause {
				continue
			}
			envelope := p.admission(m.Report, now)
			if envelope == nil {
				continue
			}
			if len(last) >= maxMembers {
				clear(last)
			}
			last[id] = now
			_ = p.g.admit(ctx, id, envelope) // the next report triggers another try
		}
	}
}

// admission returns an admission for the process of the report; nil if it does not need one.
func (p *Publisher) admission(r *fleetv1.Report, now time.Time) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.session.Due(r, now) {
		return nil
	}
	envelope, err := p.session.Admit(r, now)
	if err != nil {
		return nil
	}
	return envelope
}

// Close ends the admissions. The record lapses unless it is at 0 %. A nil Publisher does nothing.
func (p *Publisher) Close() {
	if p == nil {
		return
	}
	p.cancel()
	p.done.Wait()
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.g.heard = nil
}
