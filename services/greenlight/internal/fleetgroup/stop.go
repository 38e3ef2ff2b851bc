package fleetgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// maxReason bounds a reason in a message, in bytes.
const maxReason = 400

func shorten(s string) string { return text.Cut(s, maxReason) }

const (
	// stopTimeout bounds how long a stop is retried until it is stored.
	stopTimeout = 5 * time.Second
	// stopPause is the time between two attempts.
	stopPause = 200 * time.Millisecond
)

// stops are the stops that this process has sent.
type stops struct {
	mu   sync.Mutex
	sent map[fleetv1.StopKind]sent
}

// sent is a stop that was sent: when, and why it is not stored; nil if it is stored.
type sent struct {
	at       time.Time
	unstored error
}

// Stop stops all executors of the group now, and returns when the stop was sent. It does not wait for the executors. If the
// stop was sent but not stored, the error is a [group.ErrNotStored].
func (g *Group) Stop(ctx context.Context, kind fleetv1.StopKind, reason string) (time.Time, error) {
	ctx = context.WithoutCancel(ctx)
	// Revisions are at least the time in milliseconds, so this one exceeds all earlier ones, even if the store has lost them,
	// unless a clock is wrong. The stored record matters only in that case, and reading it may take a while.
	now := time.Now()
	revision := uint64(max(1, now.UnixMilli()))
	err := g.stop(ctx, kind, revision, reason)
	if err != nil && !errors.Is(err, group.ErrNotStored) {
		return now, err
	}
	if r, unread := g.record(ctx); unread == nil && r.GetRevision() > revision {
		return now, g.stop(ctx, kind, min(r.GetRevision()+1, group.MaxRevision), reason)
	}
	return now, err
}

// StopUpTo stops this operator's records up to the revision, and no later ones.
func (g *Group) StopUpTo(ctx context.Context, revision uint64, reason string) error {
	return g.stop(ctx, fleetv1.StopKind_STOP_KIND_ABORT, revision, reason)
}

func (g *Group) stop(ctx context.Context, kind fleetv1.StopKind, revision uint64, reason string) error {
	if g.Signer == nil {
		return ErrNoKey
	}
	envelope, err := group.Stop(g.Signer, g.Group(), Issuer(), kind, revision, shorten(reason), time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var unstored error
	for {
		err := g.stopTry(ctx, kind, envelope)
		if errors.Is(err, group.ErrNotStored) {
			unstored = err
		}
		switch {
		case err == nil:
			return nil
		case traffic.Pause(ctx, stopPause): // executors obey a stop only once, so it can be sent again
		case unstored != nil:
			return fmt.Errorf("group %s: %w", g.Group(), unstored)
		default:
			return fmt.Errorf("the stop of group %s was not sent: %w", g.Group(), err)
		}
	}
}

func (g *Group) stopTry(ctx context.Context, kind fleetv1.StopKind, envelope []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return g.Carrier.Stop(ctx, kind, envelope)
}

// stopOnce is [Group.Stop], but sends each kind only once. It is not an error if the stop is not stored.
func (g *Group) stopOnce(ctx context.Context, kind fleetv1.StopKind, reason string) (time.Time, error) {
	g.stops.mu.Lock()
	defer g.stops.mu.Unlock()
	if s, ok := g.stops.sent[kind]; ok {
		return s.at, nil
	}
	at, err := g.Stop(ctx, kind, reason)
	if err != nil && !errors.Is(err, group.ErrNotStored) {
		return at, err
	}
	if g.stops.sent == nil {
		g.stops.sent = map[fleetv1.StopKind]sent{}
	}
	g.stops.sent[kind] = sent{at, err}
	return at, nil
}

// StopNow is [Group.Stop] for a command that reads every executor back afterwards: calls to the executors of [Group.Executors]
// then do not send another stop.
func (g *Group) StopNow(ctx context.Context, kind fleetv1.StopKind, reason string) error {
	if _, err := g.stopOnce(ctx, kind, reason); err != nil {
		return err
	}
	g.stops.mu.Lock()
	defer g.stops.mu.Unlock()
	return g.stops.sent[kind].unstored
}

// Brake is a stop that is sent before the executors are known; the zero value is none.
type Brake struct {
	Kind   fleetv1.StopKind
	Reason string
	// Say, which may be nil, is called with what happened.
	Say func(format string, args ...any)
}

// Brake is [Group.StopNow] for a brake. It calls use to read the executors back even if the stop is not stored, which is then
// an error.
func (g *Group) Brake(ctx context.Context, b Brake, use func() error) error {
	if b.Kind == fleetv1.StopKind_STOP_KIND_UNSPECIFIED {
		return use()
	}
	err := g.StopNow(ctx, b.Kind, b.Reason)
	if err != nil && !errors.Is(err, group.ErrNotStored) {
		return err
	}
	switch {
	case b.Say == nil:
	case err != nil:
		b.Say("stop      sent to group %s, not stored: executors that start later will not see it", g.Group())
	default:
		b.Say("stop      sent to group %s and stored", g.Group())
	}
	return errors.Join(use(), err)
}

// stopRead waits for a report of the executor, received after since, that confirms the stop.
func (g *Group) stopRead(ctx context.Context, id string, kind fleetv1.StopKind, since time.Time) (Member, error) {
	for {
		news := g.News()
		m, ok := g.Member(id, time.Now())
		if ok && m.At.After(since) && stopped(m.Report, kind) {
			return m, nil
		}
		select {
		case <-ctx.Done():
			what := "it is at 0 %"
			if kind == fleetv1.StopKind_STOP_KIND_KILL {
				what = "its gate is killed"
			}
			return m, fmt.Errorf("no report of executor %s confirms that %s", id, what)
		case <-news:
		}
	}
}

// stopped reports whether the report confirms the stop.
func stopped(r *fleetv1.Report, kind fleetv1.StopKind) bool {
	killed := slices.ContainsFunc(r.GetRollout().GetGate().GetLatches(), func(l *executorv1.GateLatchState) bool {
		return l.GetLatch() == executorv1.GateLatch_GATE_LATCH_KILLED
	})
	return AtZero(r) && (killed || kind != fleetv1.StopKind_STOP_KIND_KILL)
}

// AtZero reports whether an executor, according to its report, shadows no requests and lets no model decide.
func AtZero(r *fleetv1.Report) bool {
	rollout := r.GetRollout().GetRollout()
	return rollout != nil && rollout.GetPercent() == 0 && rollout.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_GATED && r.GetShadow().GetSamplePercent() == 0
}
