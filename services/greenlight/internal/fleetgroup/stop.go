package fleetgroup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// maxReason bounds a reason that is sent, in bytes.
const maxReason = 400

func shorten(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}

// stops are the stops that this process has sent, with when.
type stops struct {
	mu   sync.Mutex
	sent map[fleetv1.StopKind]time.Time
}

// Stop stops all executors of the group now, and returns when it was sent. It does not wait for them.
func (g *Group) Stop(ctx context.Context, kind fleetv1.StopKind, reason string) (time.Time, error) {
	revision := uint64(1)
	if r, err := g.record(ctx); err == nil && r != nil {
		revision = min(r.GetRevision()+1, group.MaxRevision)
	}
	// Revisions are at least the time in milliseconds: this one is above all that were issued, also if the store has lost them.
	now := time.Now() // reading the record may have taken a while
	revision = max(revision, uint64(max(1, now.UnixMilli())))
	return now, g.stop(context.WithoutCancel(ctx), kind, revision, reason)
}

// StopUpTo stops the records up to the revision, of this operator, and no later ones.
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := g.Carrier.Stop(ctx, kind, envelope); err != nil {
		return fmt.Errorf("the stop of group %s was not sent: %w", g.Group(), err)
	}
	return nil
}

// stopOnce is [Group.Stop], once for each kind.
func (g *Group) stopOnce(ctx context.Context, kind fleetv1.StopKind, reason string) (time.Time, error) {
	g.stops.mu.Lock()
	defer g.stops.mu.Unlock()
	if sent, ok := g.stops.sent[kind]; ok {
		return sent, nil
	}
	sent, err := g.Stop(ctx, kind, reason)
	if err == nil {
		if g.stops.sent == nil {
			g.stops.sent = map[fleetv1.StopKind]time.Time{}
		}
		g.stops.sent[kind] = sent
	}
	return sent, err
}

// StopNow is [Group.Stop] for a command that then reads every executor back: the calls of [Group.Executors] do not stop again.
func (g *Group) StopNow(ctx context.Context, kind fleetv1.StopKind, reason string) error {
	_, err := g.stopOnce(ctx, kind, reason)
	return err
}

// stopRead waits for a report of the executor, received since then, that confirms the stop.
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

// AtZero reports whether an executor gets no shadow and lets no model decide, by its report.
func AtZero(r *fleetv1.Report) bool {
	rollout := r.GetRollout().GetRollout()
	return rollout != nil && rollout.GetPercent() == 0 && rollout.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_GATED && r.GetShadow().GetSamplePercent() == 0
}
