package fleetgroup

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/group"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// Release has the options of [Publisher.Release].
type Release struct {
	// Holder and Reason are for the record that sets 0 %.
	Holder, Reason string
	// Timeout bounds each call. Until is when the last lease must have lapsed.
	Timeout time.Duration
	Until   time.Time
	// Keep, which may be nil, is called with the revision of that record before it is published.
	Keep func(revision uint64)
}

const (
	// StopAfter is how long executors may take to report 0 % before they are also stopped.
	StopAfter = 3 * group.ReportPeriod
	// retryRelease is the time between two attempts.
	retryRelease = 100 * time.Millisecond
)

// Release publishes 0 %, and waits until every executor that is present reports that it no longer obeys this session. If 0 %
// cannot be published, or is not reported within [StopAfter], it also stops the records of the session, unless another
// controller has replaced them: executors then report an abort, as after an emergency. It retries until the last lease must
// have lapsed and all executors have reported once more. It returns the ids of the executors that have not confirmed 0 %, and
// why 0 % could not be published. A [*TakenError] means that it did not touch somebody else's record.
func (p *Publisher) Release(ctx context.Context, r Release) (missing []string, err error) {
	last := p.Last()
	if last == nil {
		return nil, nil
	}
	start := time.Now()
	end := r.Until
	if soon := start.Add(2 * r.Timeout); end.Before(soon) {
		end = soon
	}
	end = end.Add(2 * group.ReportPeriod)
	call := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		return do(ctx)
	}
	waiting := p.g.Members(start)
	taken := (*TakenError)(nil)
	for done, stopped := false, false; ; time.Sleep(retryRelease) {
		if !done {
			err = call(func(ctx context.Context) error { return p.off(ctx, last.GetRevision(), r) })
			done = err == nil || errors.As(err, &taken)
			stopped = stopped || taken != nil && taken.Successor // executors leave this session and obey that record
		}
		if !stopped && (err != nil || time.Since(start) > StopAfter) {
			stopped = call(func(ctx context.Context) error { return p.g.StopUpTo(ctx, last.GetRevision(), r.Reason) }) == nil
		}
		waiting = slices.DeleteFunc(waiting, func(m Member) bool {
			now, ok := p.g.Member(m.ID, time.Now())
			return ok && now.At.After(start) && (AtZero(now.Report) || now.Report.GetRevision() > p.Last().GetRevision())
		})
		if done && len(waiting) == 0 || !time.Now().Before(end) {
			for _, m := range waiting {
				missing = append(missing, m.ID)
			}
			return missing, err
		}
	}
}

// off publishes 0 % after the record with the revision, or publishes it again.
func (p *Publisher) off(ctx context.Context, revision uint64, r Release) error {
	if last := p.Last(); last.GetRevision() != revision { // an earlier call failed and may still succeed
		return p.Repeat(ctx)
	}
	if r.Keep == nil {
		r.Keep = func(uint64) {}
	}
	return p.Change(ctx, &fleetv1.Record{
		Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Lease: durationpb.New(p.Last().GetLease().AsDuration()), Holder: r.Holder, Reason: r.Reason,
	}, r.Keep)
}

// endTimeout bounds [Group.End]: it makes up to four calls.
const endTimeout = 5 * callTimeout

// End sets 0 % in the record of the group, even if somebody else holds the record. Send a stop first, so that the holder no
// longer renews it. End continues after ctx ends, which may happen while executors are read back.
func (g *Group) End(ctx context.Context, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	r, err := g.record(ctx)
	if err != nil || r == nil || group.Idle(r) {
		return err
	}
	p, err := g.Publish(ctx, Claim{Holder: r.GetHolder(), Above: r.GetRevision(), Lease: r.GetLease().AsDuration()})
	if err != nil {
		return err
	}
	defer p.Close()
	err = p.Change(ctx, &fleetv1.Record{
		Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Lease: r.GetLease(), Holder: r.GetHolder(), Reason: shorten(why),
	}, func(uint64) {})
	if now, unread := g.record(ctx); err != nil && unread == nil && group.Idle(now) { // the holder was faster
		return nil
	}
	return err
}
