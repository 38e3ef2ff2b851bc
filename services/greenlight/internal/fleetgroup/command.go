package fleetgroup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// command sends a command to an executor, and again for every second report, until the executor reports that it has obeyed one
// of them. It passes done the newest report before the first command, and every later report. done may end the command because
// nothing is left to do, or with an error.
func (g *Group) command(ctx context.Context, id string, c *fleetv1.Admission, done func(m Member, sent bool) (bool, error)) (Member, error) {
	if g.Signer == nil {
		return Member{}, ErrNoKey
	}
	session := group.NewSession(g.Group(), Issuer(), g.Signer, time.Now())
	var sent time.Time
	var last *fleetv1.Report // the report that the newest command answers
	nonces := map[string]bool{}
	for {
		news := g.News()
		m, ok := g.Member(id, time.Now())
		switch {
		case !ok && time.Since(g.began) > listen:
			return m, fmt.Errorf("executor %s does not report: greenlight fleet ls shows the executors that do", id)
		case !ok:
		case m.Twins:
			return m, m.Err
		case sent.IsZero() || m.At.After(sent):
			if nonces[m.Report.GetCommandNonce()] {
				return m, nil
			}
			if is, err := done(m, !sent.IsZero()); is || err != nil {
				return m, err
			}
			// The next report may have been made before the command arrived.
			if last != nil && m.Report.GetInstanceId() == last.GetInstanceId() && m.Report.GetSequence() <= last.GetSequence()+1 {
				break
			}
			last = m.Report
			envelope, err := session.Command(c, last, time.Now())
			if err == nil {
				err = g.admit(ctx, id, envelope)
			}
			if err != nil {
				return m, err
			}
			sent, nonces[last.GetNonce()] = time.Now(), true
		}
		timer := time.NewTimer(listen)
		select {
		case <-ctx.Done():
			timer.Stop()
			why := m.Trouble()
			if why != "" {
				why = "; it reports: " + why
			}
			return m, fmt.Errorf("no report of executor %s confirms it: its --fleet-trust must have the public key of --fleet-key%s", id, why)
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (g *Group) admit(ctx context.Context, id string, envelope []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return g.Carrier.Admit(ctx, id, envelope)
}

// Reset makes an executor that is at 0 % forget the highest revision and the aborts that it has seen. It returns when the
// executor has confirmed the reset. If the executor is aborted after the first report that Reset has read, Reset ends with an
// error, because a later command would lift that abort.
func (g *Group) Reset(ctx context.Context, id string) error {
	var first *executorv1.Rollout
	_, err := g.command(ctx, id, &fleetv1.Admission{Reset_: true}, func(m Member, _ bool) (bool, error) {
		now := m.Report.GetRollout().GetRollout()
		switch {
		case !AtZero(m.Report):
			return false, fmt.Errorf("executor %s is at %g %%: end the rollout first, with greenlight fleet abort", id, now.GetPercent())
		case first == nil:
			first = now
		case now.GetRevision() != first.GetRevision():
			return false, fmt.Errorf("executor %s was changed during the reset: %s; reset it again if that is still right", id, fleet.DescribeRollout(now))
		}
		return false, nil
	})
	return err
}

// commanded returns the rollout and the gate that confirm a command. The error is a gRPC status.
func commanded(m Member, err error) (*executorv1.GetRolloutResponse, error) {
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return m.Report.GetRollout(), nil
}

// alarm raises an alarm at the gate of the executor, if the gate is set for the model. The error is a gRPC status.
func (g *Group) alarm(ctx context.Context, id string, req *executorv1.RaiseGateAlarmRequest) (*executorv1.GetRolloutResponse, error) {
	c := &fleetv1.Admission{Alarm: req.GetAlarm(), ModelDigest: req.GetModelDigest(), Reason: req.GetReason()}
	return commanded(g.command(ctx, id, c, func(m Member, _ bool) (bool, error) {
		if m.Report.GetRollout().GetRollout().GetGate().GetModelDigest() != req.GetModelDigest() {
			return false, fmt.Errorf("executor %s has no gate for the model %.12s: nothing was changed", id, req.GetModelDigest())
		}
		return false, nil
	}))
}

// clear clears latches of the executor. The request must give the time when each was last set. If a latch was set again since,
// that is an error even after the clear was obeyed, because the sender has not seen the new latch. The error is a gRPC status.
func (g *Group) clear(ctx context.Context, id string, req *executorv1.ClearGateLatchesRequest) (*executorv1.GetRolloutResponse, error) {
	seen := map[executorv1.GateLatch]time.Time{}
	for i, t := range req.GetLastSetTimes() {
		if i < len(req.GetLatches()) {
			seen[req.GetLatches()[i]] = t.AsTime()
		}
	}
	left := func(m Member, cleared bool) (n int, err error) {
		for _, l := range m.Report.GetRollout().GetGate().GetLatches() {
			last := cmp.Or(l.GetLastSetTime(), l.GetSetTime()).AsTime()
			switch {
			case !slices.Contains(req.GetLatches(), l.GetLatch()):
			case cleared || !last.Equal(seen[l.GetLatch()]):
				return 0, fmt.Errorf("executor %s: the latch %s was set again at %s, so it stays: find out why, and clear it again",
					id, fleet.Latch(l.GetLatch()), last.UTC().Format(time.RFC3339Nano))
			default:
				n++
			}
		}
		return n, nil
	}
	c := &fleetv1.Admission{Clear: req.GetLatches(), LastSetTimes: req.GetLastSetTimes(), Reason: req.GetReason()}
	m, err := g.command(ctx, id, c, func(m Member, sent bool) (bool, error) {
		n, err := left(m, false)
		if err == nil && !sent && n < len(req.GetLatches()) {
			err = fmt.Errorf("executor %s does not have all of the latches: nothing was cleared", id)
		}
		return n == 0, err
	})
	if err == nil {
		_, err = left(m, true)
	}
	return commanded(m, err)
}

// StoredKill returns the kill that the group stores; nil without one. A stored kill applies to every executor that joins.
func (g *Group) StoredKill(ctx context.Context) (*fleetv1.Stop, error) {
	_, kill, err := g.storedKill(ctx)
	return kill, err
}

func (g *Group) storedKill(ctx context.Context) ([]byte, *fleetv1.Stop, error) {
	if g.Signer == nil {
		return nil, nil, ErrNoKey
	}
	stops, err := g.storedStops(ctx)
	i := slices.IndexFunc(stops, func(s storedStop) bool { return s.GetKind() == fleetv1.StopKind_STOP_KIND_KILL })
	switch {
	case i < 0 && err != nil:
		return nil, nil, fmt.Errorf("group %s: its stops cannot be read: %w", g.Group(), err)
	case i < 0:
		return nil, nil, nil
	case stops[i].foreign:
		return nil, nil, fmt.Errorf("group %s stores a kill that was signed with another key than --fleet-key: clear it with that key or, if nobody has the key, delete the entry kill from the bucket", g.Group())
	}
	return stops[i].envelope, stops[i].Stop, nil
}

// DropKill removes the stored kill with the id, so that it no longer applies to executors that join. Another kill stays and is
// an error.
func (g *Group) DropKill(ctx context.Context, id string) error {
	envelope, kill, err := g.storedKill(ctx)
	if err == nil && kill.GetId() == id {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if err = g.Carrier.DropKill(ctx, envelope); err == nil {
			_, kill, err = g.storedKill(ctx)
		}
	}
	if err == nil && kill != nil {
		err = fmt.Errorf("group %s stores another kill, by %s: %q", g.Group(), text.Clean(kill.GetIssuer(), maxName), text.Clean(kill.GetReason(), maxReason))
	}
	return err
}
