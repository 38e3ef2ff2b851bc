package canary

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// Kind is the kind of an [Event]. The set is closed.
type Kind string

// The kinds, and the fields that they set in addition to Kind and Time.
const (
	// Started is the first event of a run.
	Started Kind = "started"
	// Resumed means that a controller has resumed the run. Reason is how the previous one ended.
	Resumed Kind = "resumed"
	// PhaseBegun is the start of an attempt at a phase, before anything is set: Phase, Percent.
	PhaseBegun Kind = "phase_begun"
	// Counting means that every executor has confirmed the share and the first counts were read: Phase, Percent. The time
	// of the phase starts here. In a group, enough executors have confirmed it: Reason gives the number.
	Counting Kind = "counting"
	// Polled is a poll of the counts: Phase, Percent, Poll.
	Polled Kind = "looked"
	// Held is a phase whose time is over and whose verdict is not PASS: Phase, Percent, Reason. It is repeated if the
	// reason changes in more than its figures.
	Held Kind = "held"
	// PhaseRetried means that an executor restarted or its lease lapsed: Phase, Percent, Executor, Reason. The attempt ends as
	// Interrupted, and the phase is retried.
	PhaseRetried Kind = "begin_anew"
	// PhaseEnded is the end of an attempt at a phase: Phase, Percent, Decision, Reason, PSI or PSIReason, and Fleet.
	PhaseEnded Kind = "phase_ended"
	// Issued means that a record of the group is about to be published: Revision.
	Issued Kind = "issued"
	// RollingBack means that 0 % is being set: Decision, Reason.
	RollingBack Kind = "rolling_back"
	// RolledBack means that 0 % was read back from every executor: TookMS.
	RolledBack Kind = "rolled_back"
	// NotRolledBack names the executors from which 0 % was not read back: TookMS, Reason.
	NotRolledBack Kind = "not_rolled_back"
	// Finished is the last event of a run: Decision, Reason.
	Finished Kind = "finished"
)

// Event is one step of a run. The journal holds the events, one per line, and a [Record] is computed from them.
type Event struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	// Phase is the index of the phase in the policy, from 0. Percent is its share of the requests.
	Phase   int     `json:"phase"`
	Percent float64 `json:"percent,omitempty"`
	// Executor is the address of the executor concerned.
	Executor string   `json:"executor,omitempty"`
	Decision Decision `json:"decision,omitempty"`
	// Reason is for people; it may be empty.
	Reason string `json:"reason,omitempty"`
	Poll   *Poll  `json:"look,omitempty"` // the key is older than the name
	// PSI is the overall index of the last 7 days; nil if it is unknown, and PSIReason is then the reason.
	PSI       *float64 `json:"psi,omitempty"`
	PSIReason string   `json:"psi_reason,omitempty"`
	// TookMS is how long the rollback took, in milliseconds.
	TookMS float64 `json:"took_ms,omitempty"`
	// Revision is the revision of the group's record.
	Revision uint64 `json:"revision,omitempty"`
	// Fleet has the counts of each executor of the group in the phase; nil without a group.
	Fleet *PhaseFleet `json:"fleet,omitempty"`
}

// Poll has the counts of an attempt, from its start to one poll.
type Poll struct {
	Sample

	// Outcomes counts the shadows that have ended, by outcome.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Sources counts the requests by source; nil if an executor does not report sources.
	Sources evidence.Sources `json:"sources,omitempty"`
	// Latency is the histogram that the p95 was computed from; nil without a p95, and in journals of older versions.
	Latency *fleet.Histogram `json:"latency_ms,omitempty"`
	// Card holds the judged SLOs. Its verdict is the verdict of the poll.
	Card gate.Scorecard `json:"card"`
	// Quality is the verdict on live quality; nil without a plan.
	Quality *quality.Summary `json:"quality,omitempty"`
	// Left is the remaining time of the phase, 0 once it is over. HoldLeft is the time until the phase is stopped.
	Left     gate.Duration `json:"left"`
	HoldLeft gate.Duration `json:"hold_left"`
	// Needed is the number of comparisons that are still missing before the phase can be judged.
	Needed uint64 `json:"needed"`
	// Keep reports whether the journal and the record keep the poll. The others are only displayed.
	Keep bool `json:"-"`
}
