package rollout

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// OnAbort sets how an abort affects the record of the group. hold immediately invalidates it and other records of sessions that
// have begun; keep saves that. Call it before the first request.
func (k *Keeper) OnAbort(hold func(), keep func(wait time.Duration) error) {
	k.hold, k.keep = hold, keep
}

// refuseDirect returns an error if a group controls the rollout.
func (k *Keeper) refuseDirect() error {
	if k.opts.Group == "" {
		return nil
	}
	return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_FLEET,
		"the group %s decides the rollout of this executor: change the record of the group (greenlight canary start --fleet), or end it here with AbortRollout", k.opts.Group)
}

// grouped returns the rollout that replaces the file's if a group controls it: always 0 %.
func (k *Keeper) grouped(r *Rollout, now time.Time) (*Rollout, bool, error) {
	if r.Mode == off && r.Holder == "" {
		return r, false, nil
	}
	return &Rollout{
		Mode: off, Revision: r.Revision + 1, By: byExecutor, Time: now, Plan: r.Plan, Demoted: r.Demoted,
		Reason: fmt.Sprintf("executor has started: the group %s decides", k.opts.Group),
	}, true, nil
}

// byGroup is who set a rollout from the record of the group.
func (k *Keeper) byGroup() string { return "group:" + k.opts.Group }

// Obey puts the record of the group in force until then, a time with a monotonic clock reading. A nil record means 0 %, and why
// explains it. An error means that the record is refused, which gives 0 %, or the record's shadow percentage if its gate was
// demoted. Obey does not wait for the disk.
func (k *Keeper) Obey(record *fleetv1.Record, until time.Time, why string) error {
	if record == nil {
		k.rest(why)
		return nil
	}
	c, err := k.order(record)
	if err == nil {
		err = k.follow(record.GetRevision(), &c, until)
	}
	switch {
	case err != nil:
		k.rest(err.Error())
	case c.mode == gated && k.now.Load().Demoted == record.GetRevision():
		if err = k.opts.Gate.Refused(); err == nil {
			err = errors.New("the gate was demoted: no model decides until a record with a higher revision")
		}
	}
	return err
}

// order returns the change that the record requests.
func (k *Keeper) order(r *fleetv1.Record) (change, error) {
	c := change{
		percent: r.GetPercent(), mode: r.GetMode(), lease: r.GetLease().AsDuration(), holder: r.GetHolder(), by: k.byGroup(), reason: r.GetReason(),
	}
	if c.holder == "" {
		c.holder = k.byGroup()
	}
	var err error
	if c.plan, err = planOf(r.GetPlan()); err == nil {
		c.gate, err = k.terms(&c, r.GetGate())
	}
	if err == nil {
		err = c.validate()
	}
	return c, err
}

// follow puts the record with the revision in force. If its gate was demoted, or a latch is set, shadows continue and the gate
// stays shut until a higher revision, even if its latch is cleared.
func (k *Keeper) follow(record uint64, c *change, until time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.settle(now)
	before := k.now.Load()
	next := &Rollout{
		Percent: c.shadows(), Decides: c.decides(), Mode: c.mode, Revision: before.Revision + 1, Holder: c.holder, Lease: c.lease, Expires: until,
		By: c.by, Reason: c.reason, Time: now, Plan: c.plan, Gate: c.gate, Record: record, Demoted: before.Demoted,
	}
	if c.mode == gated && (before.Demoted == record || k.gateRefuses(next) != nil) { // a latch refuses: order has checked the rest
		next.Mode, next.Decides, next.Demoted = observe, 0, record
		if before.Record == record { // keep who demoted it, and the reason
			next.Reason = before.Reason
		}
	}
	if err := next.sample(k.opts.Salt); err != nil {
		return err
	}
	switch {
	case !renews(before, next):
		if next.Mode == gated {
			if err := k.opts.Gate.Unfit(next.Gate); err != nil {
				return err
			}
		}
		k.put(next)
		k.opts.Logger.Info("rollout", "percent", next.percent(), "mode", modeWord(next.Mode), "revision", next.Revision, "record", record,
			"holder", next.Holder, "by", next.By, "reason", next.Reason, "plan", next.Plan.Digest())
	case until.After(before.Expires):
		next.Revision, next.By, next.From, next.Time = before.Revision, before.By, before.From, before.Time
		k.put(next)
	}
	return nil
}

// rest sets 0 %.
func (k *Keeper) rest(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.settle(now)
	before := k.now.Load()
	if before.Mode == off {
		return
	}
	if why == "" {
		why = "the record of the group says 0 %"
	}
	next := &Rollout{
		Mode: off, Revision: before.Revision + 1, By: k.byGroup(), Time: now, Reason: why, Plan: before.Plan, Demoted: before.Demoted,
	}
	k.put(next)
	k.opts.Logger.Warn("no request gets a shadow", "was", before.percent(), "revision", next.Revision, "record", before.Record, "holder", before.Holder,
		"by", next.By, "reason", why)
}
