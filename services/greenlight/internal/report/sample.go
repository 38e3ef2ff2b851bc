package report

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Sample is one reading of the services: a line of the journal.
type Sample struct {
	// Time is when it was taken, by the clock of the collector, UTC.
	Time time.Time `json:"time"`
	// Source is where the requests come from.
	Source evidence.Source `json:"source"`
	// Executors are those that answered.
	Executors []Counters `json:"executors"`
	// Drift is nil if there was no index.
	Drift *Drift `json:"drift"`
	// Quality is nil if the executors have no plan for it. Journals up to version 1.9 lack it.
	Quality *Quality `json:"quality,omitempty"`
	// Missing are the services that did not answer.
	Missing []Missing `json:"missing,omitempty"`
}

// Service is a kind of service.
type Service string

// The services.
const (
	Executor Service = "executor"
	Engine   Service = "ml-engine"
	// GateAlarm is an alarm about the model that an executor's gate is set for.
	GateAlarm Service = "gate alarm"
	// LiveQuality stands for the records of all executors, which are read as one.
	LiveQuality Service = "live quality"
)

// Missing is a service that did not answer.
type Missing struct {
	Service Service `json:"service"`
	// Address is an executor's address. ml-engines and records are read as one: then it lists all their addresses.
	Address string `json:"address"`
	Reason  string `json:"reason"`
}

// Counters are an executor's counts since its process started.
type Counters struct {
	// Executor is its address. Instance changes with every restart.
	Executor string `json:"executor"`
	Instance string `json:"instance"`
	// Start is when the process started, by its own clock, UTC.
	Start time.Time `json:"start_time"`
	// Model is the last to answer; empty before the first answer.
	Model evidence.Model `json:"model"`
	// Requests are the accepted ones. Matches, Mismatches and Failed count them by the result of their shadows.
	Requests   uint64 `json:"requests"`
	Matches    uint64 `json:"matches"`
	Mismatches uint64 `json:"mismatches"`
	Failed     uint64 `json:"failed"`
	// Sources counts the requests by source; empty if the executor does not report it.
	Sources evidence.Sources `json:"sources,omitempty"`
	// Decisions counts who decided; empty if the agent may not ask.
	Decisions fleet.Decisions `json:"decisions,omitempty"`
	// Latency counts shadows by duration in milliseconds. It has one more bucket than there are upper Edges.
	Edges   []float64 `json:"latency_edges_ms"`
	Latency []uint64  `json:"latency"`
}

// CountersOf returns the counters of an executor as the journal stores them.
func CountersOf(c fleet.Counters) Counters {
	return Counters{
		Executor: c.Executor, Instance: c.Instance, Start: c.Start, Model: c.Model, Requests: c.Requests,
		Matches: c.Of(shadow.Match), Mismatches: c.Of(shadow.Mismatch), Failed: c.Failed(),
		Sources: c.Sources, Decisions: c.Decisions, Edges: c.Latency.Edges, Latency: c.Latency.Counts,
	}
}

// anyFailure stands for all outcomes of failed shadows, which the journal stores as one.
const anyFailure = "failed"

// counters returns the counters of a line of the journal.
func (c Counters) counters() fleet.Counters {
	return fleet.Counters{
		Executor: c.Executor, Process: c.Instance, Instance: c.Instance, Start: c.Start, Model: c.Model,
		Counts: fleet.Counts{
			Requests: c.Requests,
			Outcomes: map[string]uint64{shadow.Match.String(): c.Matches, shadow.Mismatch.String(): c.Mismatches, anyFailure: c.Failed},
			Sources:  c.Sources, Decisions: c.Decisions, Latency: fleet.Histogram{Edges: c.Edges, Counts: c.Latency},
		},
	}
}

// Drift is the overall index of the 7 days before a sample, and all data for its verdict.
type Drift struct {
	// Time is the time of the sample, UTC.
	Time time.Time `json:"time"`
	PSI  float64   `json:"psi"`
	// Rows and Days cover the 7 days, ReferenceRows and ReferenceDays the reference.
	Rows          int `json:"rows"`
	Days          int `json:"days"`
	ReferenceRows int `json:"reference_rows"`
	ReferenceDays int `json:"reference_days"`
	// Q99 is the 99 % quantile of PSI without drift; nil if it is unknown.
	Q99     *float64     `json:"null_q99"`
	Verdict gate.Verdict `json:"verdict"`
	// Reason is why the verdict is not PASS; empty with PASS.
	Reason string `json:"reason"`
}

// DriftOf returns the overall index of a fleet at a time; nil if it has no rows.
func DriftOf(r *driftfleet.Report, now time.Time) *Drift {
	if r.Overall == nil {
		return nil
	}
	d := &Drift{
		Time: now, PSI: r.Overall.PSI, Rows: r.Overall.Samples, Days: r.Days,
		ReferenceRows: r.ReferenceRows, ReferenceDays: r.ReferenceDays,
	}
	if r.Overall.Noise != nil {
		d.Q99 = &r.Overall.Q99
	}
	d.Verdict, d.Reason = d.Judge()
	return d
}

// Judge judges the index by its own figures.
func (d *Drift) Judge() (gate.Verdict, string) {
	limits := drift.DefaultLimits()
	s := drift.Snapshot{ReferenceRows: d.ReferenceRows, ReferenceDays: d.ReferenceDays}
	r := drift.Reading{PSI: d.PSI, Samples: d.Rows, Threshold: limits.Overall}
	if d.Q99 != nil {
		r.Noise = &drift.Noise{Q99: *d.Q99}
	}
	return s.Judge(r, d.Days, limits)
}
