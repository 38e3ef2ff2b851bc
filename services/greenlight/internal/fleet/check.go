package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// The checks of this package validate an answer before anything is judged by it. An answer that lacks a required field, or
// whose fields contradict each other, is an error of its source. It counts neither as a figure nor as a confirmation.

const (
	// maxShown bounds a text from a service in an error, in bytes.
	maxShown = 80
	// maxVersion bounds the version of a model or a baseline, in bytes.
	maxVersion = 256
	// maxNamed bounds how many contradictions of one answer an error names.
	maxNamed = 3
)

// contradictions collects the errors in an answer.
type contradictions []error

// add adds an error unless ok. Use [shown] to shorten texts from a service among the arguments.
func (c *contradictions) add(ok bool, format string, args ...any) {
	if !ok {
		*c = append(*c, fmt.Errorf(format, args...))
	}
}

// err returns a single error of one line; nil without contradictions.
func (c contradictions) err() error {
	if len(c) == 0 {
		return nil
	}
	var all []string
	for i, err := range c {
		if i == maxNamed {
			all = append(all, fmt.Sprintf("and %d more", len(c)-maxNamed))
			break
		}
		all = append(all, err.Error())
	}
	return errors.New(strings.Join(all, "; "))
}

func shown(s string) string { return fmt.Sprintf("%q", text.Clean(s, maxShown)) }

func (c *contradictions) instance(id string) {
	c.add(id != "", "instance_id is empty")
	c.add(len(id) <= maxShown && text.Clean(id, maxShown) == id, "instance_id is %s", shown(id))
}

// model checks a version and a digest. If optional, both may be empty or may come from a model server.
func (c *contradictions) model(name, version, digest string, optional bool) {
	if optional && version == "" && digest == "" {
		return
	}
	c.add(version != "", "%s_version is empty", name)
	c.add(text.Clean(version, maxVersion) == version, "%s_version is %s", name, shown(version))
	if optional && oip.Unpinned(digest) && len(digest) == 64 && text.Clean(digest, len(digest)) == digest {
		return // from a model server
	}
	c.digest(name+"_digest", digest)
}

// digest checks a SHA-256.
func (c *contradictions) digest(name, s string) {
	ok := len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
	c.add(ok, "%s is %s: want 64 lower-case hexadecimal digits", name, shown(s))
}

func percentage(v float64) bool { return v >= 0 && v <= 100 }

// CheckModel returns an error unless the answer names a model: a version and a digest.
func CheckModel(info *mlenginev1.GetModelInfoResponse) error {
	if info == nil {
		return errors.New("the answer is empty")
	}
	var c contradictions
	c.model("model", info.GetVersion(), info.GetDigest(), false)
	return c.err()
}

// CheckRollout returns an error if an executor's answer has no rollout or an impossible one.
func CheckRollout(instance string, r *executorv1.Rollout) error {
	if r == nil {
		return errors.New("the answer has no rollout")
	}
	var c contradictions
	c.instance(instance)
	c.add(percentage(r.GetPercent()), "percent is %v", r.GetPercent())
	c.add(r.GetRevision() > 0, "revision is 0")
	observes := r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY || r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_GATED
	c.add(observes || r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OFF, "mode is %d", int32(r.GetMode()))
	c.add(observes || r.GetPercent() == 0, "%v %% and mode OFF", r.GetPercent())
	for _, at := range []*timestamppb.Timestamp{r.GetSetTime(), r.GetLeaseExpireTime()} {
		c.add(at == nil || at.IsValid(), "set_time or lease_expire_time is not a time")
	}
	_, err := PlanOf(r.GetPlan())
	c.add(err == nil, "%v", err)
	return c.err()
}

// CheckSet returns an error unless the answer confirms the rollout that was requested.
func CheckSet(req *executorv1.SetRolloutRequest, resp *executorv1.SetRolloutResponse) error {
	r := resp.GetRollout()
	if err := CheckRollout(resp.GetInstanceId(), r); err != nil {
		return err
	}
	var c contradictions
	c.add(r.GetPercent() == req.GetPercent(), "%v %% was requested, but %v %% is confirmed", req.GetPercent(), r.GetPercent())
	c.add(r.GetMode() == req.GetMode(), "mode %s was requested, but %s is confirmed", req.GetMode(), r.GetMode())
	c.add(req.GetLease() == nil || r.GetLeaseExpireTime() != nil, "a lease was requested, but the rollout has none")
	c.add(r.GetHolder() == req.GetHolder(), "a lease of %s was requested, but one of %s is confirmed", shown(req.GetHolder()), shown(r.GetHolder()))
	c.add(r.GetPlan().GetDigest() == req.GetPlan().GetDigest(), "the quality plan %s was requested, but %s is confirmed: older executors do not accept plans",
		shown(req.GetPlan().GetDigest()), shown(r.GetPlan().GetDigest()))
	c.add(proto.Equal(r.GetGate(), req.GetGate()), "the confirmed gate differs from the requested one")
	return c.err()
}

// CheckGate returns an error if the state of an executor's gate is impossible: it has an unknown or repeated decider, reason
// or latch, or more changes than requests.
func CheckGate(g *executorv1.GateStatus) error {
	var c contradictions
	c.add(g.GetHourChanged() <= g.GetHourRequests(), "%d of %d requests were changed", g.GetHourChanged(), g.GetHourRequests())
	if g.GetModelDigest() != "" { // empty until the model was reached
		c.digest("model_digest", g.GetModelDigest())
	}
	c.add(!g.GetOpen() || g.GetAllowed() && len(g.GetLatches()) == 0, "the gate is open although it is latched or not allowed")
	reasons := map[executorv1.FallbackReason]bool{}
	for _, d := range g.GetDecisions() {
		model, reason := d.GetDecidedBy() == executorv1.Decider_DECIDER_MODEL, d.GetFallbackReason()
		_, known := executorv1.FallbackReason_name[int32(reason)]
		none := reason == executorv1.FallbackReason_FALLBACK_REASON_UNSPECIFIED
		c.add((model || d.GetDecidedBy() == executorv1.Decider_DECIDER_BASELINE) && model == none && known, "decisions by %d for reason %d", int32(d.GetDecidedBy()), int32(reason))
		c.add(!reasons[reason], "the decisions for reason %s are counted twice", reason)
		c.add(d.GetCount() <= maxCount, "%d decisions", d.GetCount())
		reasons[reason] = true
	}
	latches := map[executorv1.GateLatch]bool{}
	for _, l := range g.GetLatches() {
		_, known := executorv1.GateLatch_name[int32(l.GetLatch())]
		c.add(known && l.GetLatch() != executorv1.GateLatch_GATE_LATCH_UNSPECIFIED && !latches[l.GetLatch()], "latch %d", int32(l.GetLatch()))
		for _, t := range []*timestamppb.Timestamp{l.GetSetTime(), l.GetLastSetTime()} {
			c.add(t == nil || t.IsValid(), "the time of a latch is not a time")
		}
		latches[l.GetLatch()] = true
	}
	return c.err()
}

// Latch returns the short name of a latch, for example "quality_alarm".
func Latch(l executorv1.GateLatch) string {
	return strings.ToLower(strings.TrimPrefix(l.String(), "GATE_LATCH_"))
}

// CheckDrift returns an error if an ml-engine's drift over the last hours contradicts itself. It does not compare the bins of
// two answers: the caller that adds them up does.
func CheckDrift(a *mlenginev1.GetDriftResponse, hours int) error {
	if a == nil {
		return errors.New("the answer is empty")
	}
	var c contradictions
	if id := a.GetInstanceId(); id != "" { // ml-engine before 1.9 sends none
		c.instance(id)
	}
	c.model("model", a.GetModelVersion(), a.GetModelDigest(), false)
	c.digest("reference_digest", a.GetReferenceDigest())
	end := a.GetWindowEndTime()
	if !end.IsValid() || end.GetSeconds() <= 0 || end.GetSeconds()%3600 != 0 {
		c.add(false, "window_end_time is not a whole hour")
		return c.err()
	}
	last := end.GetSeconds()/3600 - 1
	for _, f := range a.GetFeatures() {
		for _, h := range f.GetHours() {
			if h > last || h <= last-int64(hours) {
				c.add(false, "feature %s has counts for an hour outside of the window", shown(f.GetFeature()))
				break
			}
		}
		if f.GetBins() == nil {
			continue
		}
		var rows uint64
		for _, b := range f.GetBins() {
			rows += min(b.GetCount(), maxCount)
		}
		c.add(rows == f.GetRows(), "feature %s has %d rows, but its bins have %d", shown(f.GetFeature()), f.GetRows(), rows)
		c.add(f.GetRows() <= a.GetRows(), "feature %s has %d rows of %d", shown(f.GetFeature()), f.GetRows(), a.GetRows())
	}
	return c.err()
}

// ErrDuplicate means that one process answers under two names and would count twice.
var ErrDuplicate = errors.New("one process")

// CheckDistinct returns an [ErrDuplicate] if two of the names have one process. An empty process is unknown.
func CheckDistinct(what string, names, processes []string) error {
	for i, p := range processes {
		if j := slices.Index(processes, p); p != "" && j < i {
			return fmt.Errorf("%ss %s and %s are %w (%s): it would count twice", what, names[j], names[i], ErrDuplicate, shown(p))
		}
	}
	return nil
}
