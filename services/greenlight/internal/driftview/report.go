// Package driftview is what people and files are told of drift: the body of the evidence, the table, the figures, and the
// series that a watch writes.
package driftview

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Replicates of a null, and what they are drawn by: those of ml-engine, so that the same counts get the same verdict
// wherever they are judged.
const (
	Replicates = 1000
	Seed       = 1
)

// Report is drift at one time: the body of psi_snapshot.json.
type Report struct {
	// Verdict is the worst of the overall index and of those of the model's features: what promotion asks for. The score
	// and the raw inputs are watched and not judged. Reason says why it is not PASS; empty with PASS.
	Verdict gate.Verdict `json:"verdict"`
	Reason  string       `json:"reason"`
	Window  Window       `json:"window"`
	// Overall is null without rows: no data is not an index of 0.
	Overall *drift.Reading `json:"overall"`
	// Snapshot's own Overall gives way to the one above.
	drift.Snapshot
	// History are the indices of windows of 7 days that ended earlier, oldest first.
	History []Point `json:"history"`

	limits drift.Limits
}

// Window is the time that the present is of: from Start to End, exclusive, UTC. Both are zero, and absent, when that is
// not known.
type Window struct {
	Hours int       `json:"hours"`
	Start time.Time `json:"start_time,omitzero"`
	End   time.Time `json:"end_time,omitzero"`
}

// Point is drift in a window of 7 days.
type Point struct {
	// End is when the window ended, exclusive, UTC.
	End  time.Time `json:"window_end_time"`
	Rows int       `json:"rows"`
	// Partial says that the window began before there was anything to count, so that its index is of fewer days.
	Partial bool `json:"partial,omitempty"`
	// Overall is the mean over the features of the model.
	Overall float64 `json:"overall"`
	// Q99 is what Overall reaches without drift once in a hundred times, Verdict what it means; nil and empty when that
	// was not asked.
	Q99     *float64     `json:"null_q99,omitempty"`
	Verdict gate.Verdict `json:"verdict,omitempty"`
	// Features are the indices by name, of those that have rows.
	Features map[string]float64 `json:"features"`
}

// New is the report of a snapshot that was judged by the limits.
func New(s *drift.Snapshot, w Window, l drift.Limits) *Report {
	r := &Report{Window: w, Overall: &s.Overall, Snapshot: *s, History: []Point{}, limits: l}
	verdicts := []gate.Verdict{s.Overall.Verdict}
	var reasons []string
	if s.Overall.Reason != "" {
		reasons = append(reasons, "overall: "+s.Overall.Reason)
	}
	for _, f := range s.Features {
		if f.Role != drift.ModelFeature {
			continue
		}
		verdicts = append(verdicts, f.Verdict)
		if f.Reason != "" && f.Reason != s.Overall.Reason { // too few rows are too few for all
			reasons = append(reasons, f.Feature+": "+f.Reason)
		}
	}
	r.Verdict, r.Reason = gate.Worst(verdicts...), strings.Join(reasons, "; ")
	return r
}

// Empty is the report of a present without rows, against a profile, or against none when that has no rows either. It is
// INCONCLUSIVE for the reason.
func Empty(p *drift.Profile, w Window, reason string) *Report {
	r := &Report{
		Verdict: gate.Inconclusive, Reason: reason, Window: w, History: []Point{},
		Snapshot: drift.Snapshot{Features: []drift.FeatureReading{}, Shifted: []string{}},
	}
	if p != nil {
		r.ReferenceRows, r.ReferenceDays = p.Rows, len(p.Days)
		for _, f := range p.Features {
			r.Unseen = append(r.Unseen, f.Name)
		}
	}
	return r
}

// Line is the report in a line.
func (r *Report) Line() string {
	if r.Overall == nil {
		return fmt.Sprintf("no PSI: %s: %s", r.Reason, r.Verdict)
	}
	noise := "noise not known"
	if r.Overall.Noise != nil {
		noise = fmt.Sprintf("null 99 %% %.3f", r.Overall.Q99)
	}
	return fmt.Sprintf("overall PSI %.3f (%s), %s, %d rows of %d days: %s",
		r.Overall.PSI, r.Overall.Status, noise, r.Rows, r.Days, r.Overall.Verdict)
}

// PointOf is the point of a snapshot whose window ended then.
func PointOf(s *drift.Snapshot, end time.Time) Point {
	p := Point{End: end, Rows: s.Rows, Overall: s.Overall.PSI, Verdict: s.Overall.Verdict, Features: make(map[string]float64, len(s.Features))}
	if s.Overall.Noise != nil {
		p.Q99 = &s.Overall.Q99
	}
	for _, f := range s.Features {
		p.Features[f.Feature] = f.PSI
	}
	return p
}
