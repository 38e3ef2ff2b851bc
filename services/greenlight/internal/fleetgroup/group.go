// Package fleetgroup is the operator's side of a group of executors that report through a server. It tracks which are present,
// wraps each of them as a [fleet.Executor], and publishes the rollout record with its renewals and admissions. Package group
// has what both sides share.
package fleetgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

const (
	// callTimeout bounds one call to the carrier.
	callTimeout = 2 * time.Second
	// listen is how long it takes to hear all executors: one period, and some time for a busy machine.
	listen = group.ReportPeriod + 500*time.Millisecond
	// Slack is how much longer than a call it takes to hear all executors, and to hear them again after a change.
	Slack = 2*listen + 2*group.ReportPeriod
	// retry is the time before a subscription that has ended is renewed.
	retry = time.Second
)

// Options name a group and how to reach it.
type Options struct {
	// Group is its name.
	Group string
	// Signer signs records, admissions and stops. It may be nil for commands that only read.
	Signer *dsse.Signer
	// Carrier transports the messages.
	Carrier group.Carrier
	// Logger, which may be nil, receives warnings.
	Logger *slog.Logger
}

// Group receives the reports of a group's executors until it is closed.
type Group struct {
	Options
	*Presence

	blocks blocks
	stops  stops
	began  time.Time

	ctx    context.Context //nolint:containedctx // Close cancels it
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu sync.Mutex
	// first is when the first report was received; zero before.
	first time.Time
	// deaf is why reports cannot be received now.
	deaf error
	// heard, which may be nil, receives the ids of executors that have just reported.
	heard chan<- string
}

// Open starts to receive the reports of a group. Close the Group after use.
func Open(o Options) (*Group, error) {
	if err := group.CheckName(o.Group); err != nil {
		return nil, fmt.Errorf("group: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &Group{Options: o, Presence: NewPresence(o.Group), ctx: ctx, cancel: cancel, began: time.Now()}
	g.done.Go(func() { g.hear(ctx) })
	return g, nil
}

// Close stops the group's goroutines and waits for them. It does not close the carrier.
func (g *Group) Close() {
	g.cancel()
	g.done.Wait()
}

// hear receives the reports, and subscribes again if the subscription ends.
func (g *Group) hear(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.Carrier.Reports(ctx, func(raw []byte) {
			if id := g.Take(raw, time.Now()); id != "" {
				g.tell(id)
			}
		})
		g.mu.Lock()
		g.deaf = err
		g.mu.Unlock()
		traffic.Pause(ctx, retry)
	}
}

// tell passes on the id of an executor that has just reported. If nobody receives it, the next report comes soon.
func (g *Group) tell(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first.IsZero() {
		g.first = time.Now()
	}
	select {
	case g.heard <- id:
	default:
	}
}

// errNobody means that a group has no executors.
var errNobody = errors.New("no executor of the group has reported")

// Listen waits until every executor that is present must have reported. It returns an error if none has.
func (g *Group) Listen(ctx context.Context) error {
	for {
		news := g.News()
		g.mu.Lock()
		first, deaf := g.first, g.deaf
		g.mu.Unlock()
		if !first.IsZero() {
			if !traffic.Pause(ctx, time.Until(first.Add(listen))) {
				return ctx.Err()
			}
			return nil
		}
		left := time.Until(g.began.Add(2 * listen)) // connecting takes a part of it
		switch {
		case left > 0:
		case deaf != nil:
			return fmt.Errorf("group %s: %w: %w", g.Group(), errNobody, deaf)
		default:
			return fmt.Errorf("group %s: %w within %v: executor needs --fleet, --fleet-group %s and credentials that let it publish", g.Group(), errNobody, 2*listen, g.Group())
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Group returns the name of the group.
func (g *Group) Group() string { return g.Options.Group }

// Executors returns the executors that are present, ordered by id.
func (g *Group) Executors() []fleet.Executor {
	members := g.Members(time.Now())
	all := make([]fleet.Executor, len(members))
	for i, m := range members {
		all[i] = g.executor(m.ID)
	}
	return all
}

func (g *Group) executor(id string) fleet.Executor {
	c := &client{g, id}
	return fleet.Executor{Addr: id, Decisions: decisions{c}, Shadows: c, Rollouts: c}
}

// Issuer returns the issuer of what this process signs, for people: user and host.
func Issuer() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// ErrNoKey means that a message must be signed and there is no key.
var ErrNoKey = errors.New("executors obey only signed messages: give --fleet-key, the private key that belongs to a public key in their --fleet-trust")

// keys returns the keys of the records that this operator trusts.
func (g *Group) keys() dsse.Keys {
	if g.Signer == nil {
		return nil
	}
	return g.Signer.Public()
}
