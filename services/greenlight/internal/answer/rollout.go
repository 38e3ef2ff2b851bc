package answer

import (
	"errors"

	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Rollout returns an error if what an executor says of its rollout cannot be: above all, if it says nothing.
func Rollout(instance string, r *executorv1.Rollout) error {
	if r == nil {
		return errors.New("the answer has no rollout")
	}
	var c contradictions
	c.instance(instance)
	c.add(percentage(r.GetPercent()), "percent is %v", r.GetPercent())
	c.add(r.GetRevision() > 0, "revision is 0")
	observes := r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	c.add(observes || r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF, "mode is %d", int32(r.GetMode()))
	c.add(observes || r.GetPercent() == 0, "%v %% and mode OFF", r.GetPercent())
	for _, at := range []*timestamppb.Timestamp{r.GetSetTime(), r.GetLeaseExpireTime()} {
		c.add(at == nil || at.IsValid(), "set_time or lease_expire_time is not a time")
	}
	return c.err()
}

// Set returns an error unless the answer confirms that the rollout is what the request asked for.
func Set(req *executorv1.SetRolloutRequest, resp *executorv1.SetRolloutResponse) error {
	r := resp.GetRollout()
	if err := Rollout(resp.GetInstanceId(), r); err != nil {
		return err
	}
	var c contradictions
	c.add(r.GetPercent() == req.GetPercent(), "%v %% was asked for, and %v %% is confirmed", req.GetPercent(), r.GetPercent())
	c.add(r.GetMode() == req.GetMode(), "mode %s was asked for, and %s is confirmed", req.GetMode(), r.GetMode())
	c.add(req.GetLease() == nil || r.GetLeaseExpireTime() != nil, "a lease was asked for, and the rollout has none")
	c.add(r.GetHolder() == req.GetHolder(), "a lease of %s was asked for, and one of %s is confirmed", shown(req.GetHolder()), shown(r.GetHolder()))
	return c.err()
}
