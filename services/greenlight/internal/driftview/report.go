// Package driftview presents drift to people and files: the body of the evidence, the table, the figures, and the series
// that a watch writes.
package driftview

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Replicates is the number of draws of a null distribution, and Seed is their random seed. ml-engine uses the same values, so
// the same counts get the same verdict everywhere.
const (
	Replicates = 1000
	Seed       = 1
)

// Report is drift at one time: the body of psi_snapshot.json.
type Report struct {
	// Verdict is the worst verdict of the overall PSI and the model's features. A promotion needs PASS. The score and the raw
	// inputs are watched but not judged. Reason is set if the verdict is not PASS.
	Verdict gate.Verdict `json:"verdict"`
	Reason  string       `json:"reason"`
	Window  Window       `json:"window"`
	// Overall is null without rows: no data is not a PSI of 0.
	Overall *drift.Reading `json:"overall"`
	// The Overall of Snapshot is hidden by the one above.
	drift.Snapshot
	// History has earlier windows of 7 days, oldest first.
	History []Point `json:"history"`

	limits drift.Limits
}

// Window is the time of the current data, from Start to End, exclusive, UTC. Both are zero, and absent in JSON, if the time is
// unknown.
type Window struct {
	Hours int       `json:"hours"`
	Start time.Time `json:"start_time,omitzero"`
	End   time.Time `json:"end_time,omitzero"`
}

// Point is the drift in a window of 7 days.
type Point struct {
	// End is the end of the window, exclusive, UTC.
	End  time.Time `json:"window_end_time"`
	Rows int       `json:"rows"`
	// Partial is true if the window began before the first row, so that its PSI covers fewer days.
	Partial bool `json:"partial,omitempty"`
	// Overall is the mean over the features of the model.
	Overall float64 `json:"overall"`
	// Q99 is the 99 % quantile of Overall without drift, Verdict the resulting verdict. Both are absent if they were not
	// computed.
	Q99     *float64     `json:"null_q99,omitempty"`
	Verdict gate.Verdict `json:"verdict,omitempty"`
	// Features has the PSI by feature, for features with rows.
	Features map[string]float64 `json:"features"`
}

// New returns the report of a snapshot that was judged by the limits.
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
		if f.Reason != "" && f.Reason != s.Overall.Reason { // too few rows is the same reason for every feature
			reasons = append(reasons, f.Feature+": "+f.Reason)
		}
	}
	r.Verdict, r.Reason = gate.Worst(verdicts...), strings.Join(reasons, "; ")
	return r
}

// Empty returns the report for current data without rows. It is INCONCLUSIVE for the given reason. The profile may be nil if
// the reference has no rows either.
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

// Line returns the report in one line.
func (r *Report) Line() string {
	if r.Overall == nil {
		return fmt.Sprintf("no PSI: %s: %s", r.Reason, r.Verdict)
	}
	noise := "noise not known"
	if r.Overall.Noise != nil {
		noise = fmt.Sprintf("null 99 %% %.3f", r.Overall.Q99)
	}
	return fmt.Sprintf("overall PSI %.3f (%s), %s, %s of %s: %s",
		r.Overall.PSI, r.Overall.Status, noise, text.Count(r.Rows, "row"), text.Count(r.Days, "day"), r.Overall.Verdict)
}

// PointOf returns the point of a snapshot whose window ended at end.
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
