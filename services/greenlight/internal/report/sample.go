package report

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
)

// Sample is one look at the services: a line of the journal.
type Sample struct {
	// Time is when it was taken, by the clock of the collector, UTC.
	Time time.Time `json:"time"`
	// Executors are those that answered.
	Executors []Counters `json:"executors"`
	// Drift is nil when no index could be had.
	Drift *Drift `json:"drift"`
	// Errors say what could not be read.
	Errors []string `json:"errors,omitempty"`
}

// Counters are what one executor has counted since its process started.
type Counters struct {
	// Executor is its address, Instance another one after every restart.
	Executor string `json:"executor"`
	Instance string `json:"instance"`
	// Start is when the process started, by its own clock, UTC.
	Start time.Time `json:"start_time"`
	// Requests are those that were accepted; Matches, Mismatches and Failed are how their shadows ended.
	Requests   uint64 `json:"requests"`
	Matches    uint64 `json:"matches"`
	Mismatches uint64 `json:"mismatches"`
	Failed     uint64 `json:"failed"`
	// Latency counts shadows by the time until their end, in milliseconds: one more bucket than there are upper Edges.
	Edges   []float64 `json:"latency_edges_ms"`
	Latency []uint64  `json:"latency"`
}

// CountersOf are the counters in an executor's answer.
func CountersOf(addr string, r *executorv1.GetShadowReportResponse) Counters {
	c := Counters{
		Executor: addr, Instance: r.GetInstanceId(), Start: r.GetStartTime().AsTime(), Requests: r.GetRequestsTotal(),
		Edges: r.GetLatencyMsTotal().GetEdges(), Latency: r.GetLatencyMsTotal().GetCounts(),
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

// Drift is the overall index over the last 7 days at the time of a sample.
type Drift struct {
	PSI     float64      `json:"psi"`
	Rows    int          `json:"rows"`
	Verdict gate.Verdict `json:"verdict"`
	// Reason says why the verdict is not PASS; empty with PASS.
	Reason string `json:"reason"`
}

// DriftOf is the overall index of a fleet; nil when it has no rows.
func DriftOf(r *driftfleet.Report) *Drift {
	if r.Overall == nil {
		return nil
	}
	return &Drift{PSI: r.Overall.PSI, Rows: r.Overall.Samples, Verdict: r.Overall.Verdict, Reason: r.Overall.Reason}
}
