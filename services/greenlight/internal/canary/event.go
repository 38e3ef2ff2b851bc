package canary

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Kind is what an [Event] tells. The set is closed.
type Kind string

// The kinds, and which fields they fill beside Kind and Time.
const (
	// Started is the first event of a run.
	Started Kind = "started"
	// Resumed is a controller that took the run up again. Reason says what had become of the one before.
	Resumed Kind = "resumed"
	// PhaseBegun is the beginning of a phase, before anything was set: Phase, Percent. A phase may begin several times.
	PhaseBegun Kind = "phase_begun"
	// Counting is when every executor had confirmed the share and the first counts were read: Phase, Percent. The time of
	// the phase runs from here.
	Counting Kind = "counting"
	// Looked is a look at the counts: Phase, Percent, Look.
	Looked Kind = "looked"
	// Held is a phase whose time is over and whose verdict is not PASS: Phase, Percent, Reason. It comes again when
	// the reason is another one than before; that its figures have moved is not.
	Held Kind = "held"
	// BeginAnew is an executor that restarted or whose lease lapsed: Phase, Percent, Executor, Reason. The phase ends as
	// Interrupted and begins again.
	BeginAnew Kind = "begin_anew"
	// PhaseEnded is the end of one beginning of a phase: Phase, Percent, Decision, Reason, PSI or PSIReason.
	PhaseEnded Kind = "phase_ended"
	// RollingBack is that 0 % is being set, and why: Decision, Reason.
	RollingBack Kind = "rolling_back"
	// RolledBack is that 0 % was read back from every executor: TookMS. Otherwise it is NotRolledBack, with Reason.
	RolledBack Kind = "rolled_back"
	// NotRolledBack names the executors from which 0 % was not read back: TookMS, Reason.
	NotRolledBack Kind = "not_rolled_back"
	// Finished is the last event of a run: Decision, Reason.
	Finished Kind = "finished"
)

// Event is something that happened in a run, in order. A [Record] is what a run's events add up to, and the journal is
// the events, a line each.
type Event struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	// Phase is the place of the phase in the policy, from 0; Percent its share.
	Phase   int     `json:"phase"`
	Percent float64 `json:"percent,omitempty"`
	// Executor is the address of the one that it is about.
	Executor string   `json:"executor,omitempty"`
	Decision Decision `json:"decision,omitempty"`
	// Reason is for people. Empty when there is nothing to say.
	Reason string `json:"reason,omitempty"`
	Look   *Look  `json:"look,omitempty"`
	// PSI is the overall index of the last 7 days; nil when it is not known, for which PSIReason says why.
	PSI       *float64 `json:"psi,omitempty"`
	PSIReason string   `json:"psi_reason,omitempty"`
	// TookMS is how long the rollback took, in milliseconds.
	TookMS float64 `json:"took_ms,omitempty"`
}

// Look is a look at the counts of a phase, from its beginning until then.
type Look struct {
	Sample

	// Outcomes are how the requests' shadows ended, by the outcome's word.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Sources are the requests by where they came from; nil when an executor does not say.
	Sources evidence.Sources `json:"sources,omitempty"`
	// Card is the judged SLOs. Its verdict is that of the sample.
	Card gate.Scorecard `json:"card"`
	// Left is what is left of the phase's time, 0 when it is over; HoldLeft is until the phase is given up.
	Left     gate.Duration `json:"left"`
	HoldLeft gate.Duration `json:"hold_left"`
	// Needed is how many comparisons are missing until the phase can be judged.
	Needed uint64 `json:"needed"`
	// Keep says that the look is kept in the journal and the record; the others are for watching only.
	Keep bool `json:"-"`
}
