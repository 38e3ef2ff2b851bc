package canary

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// The evidence schemas of a run and of a preflight.
const (
	RunSchema       = "greenlight/canary_run/v1"
	PreflightSchema = "greenlight/canary_preflight/v1"
)

// Decision is how a phase, or a whole run, ended.
type Decision string

// The decisions.
const (
	// Running is no decision yet.
	Running Decision = "RUNNING"
	// Passed is a phase whose time was over with enough comparisons and a PASS, or a run whose phases all did.
	Passed Decision = "PASSED"
	// Aborted is a rule of abortion that held, or an operator who stopped it.
	Aborted Decision = "ABORTED"
	// Stopped is a phase that could not be judged for as long as it may be held.
	Stopped Decision = "STOPPED"
	// Interrupted is a run whose controller ended before it did: it can be resumed.
	Interrupted Decision = "INTERRUPTED"
)

// Record is a run of a canary: the body of canary_run_<time>.json and canary_dryrun_observe.json. It holds the counts
// that every verdict was computed from.
type Record struct {
	// ID names the run, its journal and its lease.
	ID string `json:"id"`
	// DryRun says that no executor in production was touched.
	DryRun bool `json:"dry_run"`
	// Executors are the gRPC addresses, Metrics where the figures came from: "executor" or the URL of a Prometheus.
	Executors []string `json:"executors"`
	Metrics   string   `json:"metrics"`
	// Baseline decided; the model under trial is in the header.
	BaselineVersion string `json:"baseline_version"`
	BaselineDigest  string `json:"baseline_digest"`
	// Policy is what was judged by.
	Policy gate.Policy `json:"policy"`
	// Confirmation is the phrase that started the run; empty in a dry run.
	Confirmation string `json:"confirmation"`
	// PlanDigest is the SHA-256 of the plan that was confirmed; empty in a dry run.
	PlanDigest string    `json:"plan_digest"`
	StartTime  time.Time `json:"start_time"`
	EndTime    time.Time `json:"end_time"`
	// Phases are those that began, in order. A phase that was begun again, after a resumption or a restart of an
	// executor, stands here once for every beginning.
	Phases []Phase `json:"phases"`
	// Decision is of the whole run, Reason why it is not [Passed].
	Decision Decision `json:"decision"`
	Reason   string   `json:"reason"`
	// Aborted is true for [Aborted] and [Stopped]; RolledBack says that 0 % was read back from every executor after it,
	// RollbackMS how long that took, in milliseconds.
	Aborted    bool    `json:"aborted"`
	RolledBack bool    `json:"rolled_back"`
	RollbackMS float64 `json:"rollback_ms"`
	// Resumptions are when a controller took the run up again.
	Resumptions []time.Time `json:"resumptions"`
	// PromoteEligible says that all phases passed, up to 100 %, live, by a policy that asks for no less than the default.
	// PromoteReason says why it is false.
	PromoteEligible bool   `json:"promote_eligible"`
	PromoteReason   string `json:"promote_reason"`
}

// Phase is one beginning of one phase.
type Phase struct {
	// Index is its place in the policy, from 0.
	Index     int       `json:"index"`
	Percent   float64   `json:"percent"`
	StartTime time.Time `json:"start_time"`
	EndTime   time.Time `json:"end_time"`
	// Requests are those of the executors during the phase, whether or not they got a shadow.
	Requests uint64 `json:"requests"`
	// Outcomes are how the requests' shadows ended, by the outcome's word.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Sources are the requests by where they came from: live, replay or simulated. It is not there when an executor does not
	// say.
	Sources evidence.Sources `json:"sources,omitempty"`
	// P95MS is nil without a shadow that was tried; ErrorRate is failures / (comparisons + failures), MatchRate matches /
	// comparisons, both in [0,1] and nil when there are none.
	P95MS     *float64 `json:"p95_ms"`
	ErrorRate *float64 `json:"error_rate"`
	MatchRate *float64 `json:"match_rate"`
	// Coverage is comparisons / sampled shadows, in [0,1]; nil without a sampled shadow.
	Coverage *float64 `json:"coverage"`
	// PSI is the overall index of the last 7 days at the end of the phase, monitored and not judged; nil if it is not
	// known, for which PSIReason says why.
	PSI       *float64 `json:"psi"`
	PSIReason string   `json:"psi_reason,omitempty"`
	// Verdicts are those of the last look, Decision what came of it, Reason why it is not [Passed].
	Verdicts []gate.Result `json:"verdicts"`
	Decision Decision      `json:"decision"`
	Reason   string        `json:"reason"`
	// Restarted are the executors that restarted during this beginning of the phase.
	Restarted []string `json:"restarted"`
	// Samples are looks during the phase, oldest first, at most a few hundred: what the plots are drawn from.
	Samples []Sample `json:"samples"`
}

// Sample is one look at a phase: its counts from the beginning of the phase to that time.
type Sample struct {
	Time time.Time `json:"time"`
	// Percent is what the executors said they sample.
	Percent  float64 `json:"percent"`
	Requests uint64  `json:"requests"`
	// Comparisons are matches and mismatches, Errors failed shadows.
	Comparisons uint64 `json:"comparisons"`
	Matches     uint64 `json:"matches"`
	Errors      uint64 `json:"errors"`
	// Unseen are the sampled shadows that neither answered nor failed.
	Unseen uint64 `json:"unseen"`
	// P95MS is nil without a shadow that was tried.
	P95MS *float64 `json:"p95_ms"`
	// MatchE and ErrorE are the wealths of the tests of mismatches and of errors, >= 0; the test rejects at 1/alpha.
	MatchE float64 `json:"match_e"`
	ErrorE float64 `json:"error_e"`
	// Verdict is that of this look.
	Verdict gate.Verdict `json:"verdict"`
	Reason  string       `json:"reason"`
}
