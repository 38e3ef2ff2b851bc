package canary

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// RunSchema is the evidence schema of a run.
const RunSchema = "greenlight/canary_run/v1"

// Decision is how a phase, or a whole run, ended.
type Decision string

// The decisions.
const (
	// Running means that nothing is decided yet.
	Running Decision = "RUNNING"
	// Passed is a phase that had enough comparisons and a PASS at the end of its time, or a run whose phases all passed.
	Passed Decision = "PASSED"
	// Aborted means that an abort rule applied or an operator stopped it.
	Aborted Decision = "ABORTED"
	// Stopped means that a phase reached the hold limit without a PASS.
	Stopped Decision = "STOPPED"
	// Interrupted means that the controller ended before the run: it can be resumed.
	Interrupted Decision = "INTERRUPTED"
)

// Record is a run of a canary: the body of canary_run_<time>.json and canary_dryrun_observe.json. It holds the counts behind
// every verdict.
type Record struct {
	// ID names the run, its journal and its lease.
	ID string `json:"id"`
	// DryRun reports whether the run used no executor in production.
	DryRun bool `json:"dry_run"`
	// Executors are the gRPC addresses. Metrics is the source of the figures: "executor" or the URL of a Prometheus server.
	Executors []string `json:"executors"`
	Metrics   string   `json:"metrics"`
	// Fleet is the group under control; nil without one. Executors are then those that were present when the run was planned.
	Fleet *RecordFleet `json:"fleet,omitempty"`
	// The baseline made the decisions. The model under trial is in the header.
	BaselineVersion string `json:"baseline_version"`
	BaselineDigest  string `json:"baseline_digest"`
	// Policy is the policy of the run.
	Policy gate.Policy `json:"policy"`
	// Confirmation is the phrase that started the run; empty in a dry run.
	Confirmation string `json:"confirmation"`
	// PlanDigest is the SHA-256 of the plan that was confirmed; empty in a dry run.
	PlanDigest string    `json:"plan_digest"`
	StartTime  time.Time `json:"start_time"`
	EndTime    time.Time `json:"end_time"`
	// QualityPlan is the plan of the verdict on live quality; nil without one. QualityRecords names the file in the same folder
	// with the records that it was judged from; empty if there is none.
	QualityPlan    *outcome.Plan `json:"quality_plan,omitempty"`
	QualityRecords string        `json:"quality_records,omitempty"`
	// Phases are the attempts at phases, in order. A phase that was retried, because the run was resumed or an executor
	// restarted, has several.
	Phases []Phase `json:"phases"`
	// Decision is the result of the run. Reason is why it is not [Passed].
	Decision Decision `json:"decision"`
	Reason   string   `json:"reason"`
	// Aborted is true for [Aborted] and [Stopped]. RolledBack reports whether 0 % was read back from every executor, and
	// RollbackMS is how long that took, in milliseconds.
	Aborted    bool    `json:"aborted"`
	RolledBack bool    `json:"rolled_back"`
	RollbackMS float64 `json:"rollback_ms"`
	// Resumptions are the times at which a controller resumed the run.
	Resumptions []time.Time `json:"resumptions"`
	// PromoteEligible reports whether all phases passed, up to 100 %, live, by a policy that is not laxer than the default.
	// PromoteReason is why not.
	PromoteEligible bool   `json:"promote_eligible"`
	PromoteReason   string `json:"promote_reason"`
}

// Phase is one attempt at a phase.
type Phase struct {
	// Index is the index of the phase in the policy, from 0.
	Index     int       `json:"index"`
	Percent   float64   `json:"percent"`
	StartTime time.Time `json:"start_time"`
	EndTime   time.Time `json:"end_time"`
	// Requests are all requests to the executors during the phase, shadowed or not.
	Requests uint64 `json:"requests"`
	// Outcomes counts the shadows that have ended, by outcome.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Sources counts the requests by source: live, replay or simulated. The key is missing if an executor does not report
	// sources.
	Sources evidence.Sources `json:"sources,omitempty"`
	// P95MS is nil without tried shadows. ErrorRate is failures / (comparisons + failures), MatchRate is matches /
	// comparisons. Both are in [0,1], and nil if they are undefined.
	P95MS *float64 `json:"p95_ms"`
	// Latency is the histogram that [P95] computed P95MS from, of the shadows whose latency is known. It is nil without a
	// P95MS, and in files of older versions.
	Latency   *fleet.Histogram `json:"latency_ms,omitempty"`
	ErrorRate *float64         `json:"error_rate"`
	MatchRate *float64         `json:"match_rate"`
	// Coverage is comparisons / sampled shadows, in [0,1]; nil without a sampled shadow.
	Coverage *float64 `json:"coverage"`
	// PSI is the overall index of the last 7 days at the end of the phase. It is monitored, not judged. It is nil if unknown,
	// and PSIReason is then the reason.
	PSI       *float64 `json:"psi"`
	PSIReason string   `json:"psi_reason,omitempty"`
	// Quality is the verdict on live quality at the last poll, over all records under the plan, including those from before the
	// run. FAIL aborts the run; other verdicts have no effect on it. It is nil without a plan.
	Quality *quality.Summary `json:"quality,omitempty"`
	// Verdicts are the verdicts of the last poll. Decision is the result, Reason is why it is not [Passed].
	Verdicts []gate.Result `json:"verdicts"`
	Decision Decision      `json:"decision"`
	Reason   string        `json:"reason"`
	// Restarted are the executors that restarted during this attempt.
	Restarted []string `json:"restarted"`
	// Fleet has the counts of each executor of the group, which add up to the counts of the phase. It is nil without a group, if
	// the attempt did not begin to count, or if its controller was killed.
	Fleet *PhaseFleet `json:"fleet,omitempty"`
	// Samples are polls during the attempt, oldest first, at most a few hundred. The plots show them.
	Samples []Sample `json:"samples"`
}

// Sample is one poll of a phase: its counts from the start of the attempt to that time.
type Sample struct {
	Time time.Time `json:"time"`
	// Percent is the percentage of requests that the executors reported.
	Percent  float64 `json:"percent"`
	Requests uint64  `json:"requests"`
	// Comparisons are matches and mismatches, Errors failed shadows.
	Comparisons uint64 `json:"comparisons"`
	Matches     uint64 `json:"matches"`
	Errors      uint64 `json:"errors"`
	// Unseen are the sampled shadows that were neither compared nor failed.
	Unseen uint64 `json:"unseen"`
	// P95MS is nil without tried shadows.
	P95MS *float64 `json:"p95_ms"`
	// MatchE and ErrorE are the e-values of the tests for mismatches and errors, >= 0. A test rejects at 1/alpha.
	MatchE float64 `json:"match_e"`
	ErrorE float64 `json:"error_e"`
	// Verdict is the verdict of this poll.
	Verdict gate.Verdict `json:"verdict"`
	Reason  string       `json:"reason"`
}

// Rates returns the match rate, the error rate and the coverage of the counts, in [0,1]; nil where they are undefined.
func (s *Sample) Rates() (match, errors, coverage *float64) {
	tried := s.Comparisons + s.Errors
	return rate(s.Matches, s.Comparisons), rate(s.Errors, tried), rate(s.Comparisons, tried+s.Unseen)
}

func rate(k, n uint64) *float64 {
	if n == 0 {
		return nil
	}
	v := float64(k) / float64(n)
	return &v
}
