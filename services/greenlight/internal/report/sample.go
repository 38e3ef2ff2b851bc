package report

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Sample is one look at the services: a line of the journal.
type Sample struct {
	// Time is when it was taken, by the clock of the collector, UTC.
	Time time.Time `json:"time"`
	// Source says where the requests come from.
	Source evidence.Source `json:"source"`
	// Executors are those that answered.
	Executors []Counters `json:"executors"`
	// Drift is nil when no index could be had.
	Drift *Drift `json:"drift"`
	// Missing are the services that were asked and said nothing.
	Missing []Missing `json:"missing,omitempty"`
}

// Service is what kind of service was asked.
type Service string

// The services.
const (
	Executor Service = "executor"
	Engine   Service = "ml-engine"
)

// Missing is a service without an answer.
type Missing struct {
	Service Service `json:"service"`
	// Address is that of an executor; of several engines, which are asked as one, all of them.
	Address string `json:"address"`
	Reason  string `json:"reason"`
}

// Counters are what one executor has counted since its process started.
type Counters struct {
	// Executor is its address, Instance another one after every restart.
	Executor string `json:"executor"`
	Instance string `json:"instance"`
	// Start is when the process started, by its own clock, UTC.
	Start time.Time `json:"start_time"`
	// Model is what the shadow answered with last; empty before its first answer.
	Model evidence.Model `json:"model"`
	// Requests are those that were accepted; Matches, Mismatches and Failed are how their shadows ended.
	Requests   uint64 `json:"requests"`
	Matches    uint64 `json:"matches"`
	Mismatches uint64 `json:"mismatches"`
	Failed     uint64 `json:"failed"`
	// Sources are the requests by where they came from; empty when the executor does not say.
	Sources evidence.Sources `json:"sources,omitempty"`
	// Latency counts shadows by the time until their end, in milliseconds: one more bucket than there are upper Edges.
	Edges   []float64 `json:"latency_edges_ms"`
	Latency []uint64  `json:"latency"`
}

// CountersOf are the counters in an executor's answer.
func CountersOf(addr string, r *executorv1.GetShadowReportResponse) Counters {
	c := Counters{
		Executor: addr, Instance: r.GetInstanceId(), Requests: r.GetRequestsTotal(),
		Model: evidence.Model{Version: r.GetShadowVersion(), Digest: r.GetShadowDigest()},
		Edges: r.GetLatencyMsTotal().GetEdges(), Latency: r.GetLatencyMsTotal().GetCounts(),
		Sources: fleet.SourcesOf(r),
	}
	if t := r.GetStartTime(); t.IsValid() { // others are no time that the journal can have
		c.Start = t.AsTime()
	}
	for _, o := range r.GetOutcomesTotal() {
		switch outcome := shadow.Outcome(o.GetOutcome()); {
		case outcome == shadow.Match:
			c.Matches += o.GetCount()
		case outcome == shadow.Mismatch:
			c.Mismatches += o.GetCount()
		case outcome.Failed():
			c.Failed += o.GetCount()
		}
	}
	return c
}

// goesOn says whether later counters are of the same process, whose counts only grow.
func (c Counters) goesOn(later Counters) bool {
	return c.Instance == later.Instance && c.Requests <= later.Requests && c.Matches <= later.Matches &&
		c.Mismatches <= later.Mismatches && c.Failed <= later.Failed
}

// Drift is the overall index over the last 7 days at the time of a sample, and all that it is judged by.
type Drift struct {
	// Time is that of the sample, UTC.
	Time time.Time `json:"time"`
	PSI  float64   `json:"psi"`
	// Rows and Days are those of the present, ReferenceRows and ReferenceDays those of the reference.
	Rows          int `json:"rows"`
	Days          int `json:"days"`
	ReferenceRows int `json:"reference_rows"`
	ReferenceDays int `json:"reference_days"`
	// Q99 is what PSI reaches without drift once in a hundred times; nil when that is not known.
	Q99     *float64     `json:"null_q99"`
	Verdict gate.Verdict `json:"verdict"`
	// Reason says why the verdict is not PASS; empty with PASS.
	Reason string `json:"reason"`
}

// DriftOf is the overall index of a fleet at a time; nil when it has no rows.
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
