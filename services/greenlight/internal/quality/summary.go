package quality

import (
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Summary is a verdict without its records.
type Summary struct {
	// Plan is the digest of the plan.
	Plan    string          `json:"plan"`
	Verdict outcome.Verdict `json:"verdict"`
	Reasons []string        `json:"reasons"`
	// Lower and Upper are the bounds of the mean difference, Difference is the mean so far.
	Lower      float64 `json:"lower"`
	Upper      float64 `json:"upper"`
	Difference float64 `json:"difference"`
	// Blocks is the number of blocks with requests, Counted the number of those that count.
	Blocks  int                 `json:"blocks"`
	Counted int                 `json:"counted_blocks"`
	Labels  outcome.LabelCounts `json:"labels"`
	// DaysNeeded is nil if it never passes at the difference so far.
	DaysNeeded *float64 `json:"days_needed"`
	// Through is the last block in the records of each executor, by its id. It is empty if the records could not be read: the
	// verdict is then ERROR.
	Through map[string]int64 `json:"through"`
}

// Summarize judges the records of one model and baseline.
func Summarize(p outcome.Plan, records []outcome.Record) *Summary {
	s := SummaryOf(outcome.Judge(p, records))
	for i := range records {
		r := &records[i]
		if last, ok := s.Through[r.Executor]; !ok || r.Block > last {
			s.Through[r.Executor] = r.Block
		}
	}
	return s
}

// SummaryOf returns a judgment without its records.
func SummaryOf(v *outcome.Judgment) *Summary {
	return &Summary{
		Plan: v.PlanDigest, Verdict: v.Verdict, Reasons: v.Reasons, Lower: v.Lower, Upper: v.Upper, Difference: v.Difference, Blocks: v.Blocks,
		Counted: v.Counted, Labels: v.Total.Labels, DaysNeeded: v.DaysNeeded, Through: map[string]int64{},
	}
}

// Unread returns the ERROR for records that could not be read.
func Unread(p outcome.Plan, err error) *Summary {
	return &Summary{
		Plan: p.Digest(), Verdict: outcome.Error, Reasons: []string{"the records could not be read: " + text.Clean(err.Error(), 500)}, Lower: -p.MaxDifference(),
		Upper: p.MaxDifference(), Through: map[string]int64{},
	}
}

// Recheck judges again what was known at the time of the summary, and returns what contradicts the records; empty if nothing
// does.
func (s *Summary) Recheck(p outcome.Plan, records []outcome.Record) string {
	if len(s.Through) == 0 && s.Verdict == outcome.Error {
		return ""
	}
	known := slices.DeleteFunc(slices.Clone(records), func(r outcome.Record) bool {
		last, ok := s.Through[r.Executor]
		return !ok || r.Block > last
	})
	return differs(plain(s), plain(Summarize(p, known)))
}

// Words describes the verdict with its bounds and what it still needs.
func (s *Summary) Words() string {
	line := string(s.Verdict) + meaning[s.Verdict]
	switch s.Verdict {
	case outcome.Error:
		for _, reason := range s.Reasons {
			line += ": " + reason
		}
		return line
	case outcome.Inconclusive:
		line += ", " + s.Needs()
	case outcome.Fail, outcome.Better, outcome.Pass:
	}
	return line + fmt.Sprintf(", difference %+.4g to %+.4g, %s", s.Lower, s.Upper, text.Count(s.Labels[outcome.Matured], "label"))
}

// Needs describes how many days a PASS still needs.
func (s *Summary) Needs() string {
	if s.DaysNeeded == nil {
		return "never passes at the difference so far"
	}
	return "needs " + outcome.Days(*s.DaysNeeded) + " more"
}

// LiveReport judges the records of executors. The names are the versions.
func LiveReport(p outcome.Plan, records []outcome.Record, model, baseline string) (*Report, error) {
	r := &Report{Scores: Executors, Model: model, Baseline: baseline, Records: records}
	err := r.Judge(&p)
	return r, err
}
