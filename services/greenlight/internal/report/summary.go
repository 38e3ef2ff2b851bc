package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Rule names of a summary in addition to those of [gate.Shadow].
const (
	PSI      = "PSI"
	Coverage = "coverage"
)

const (
	// fullCoverage is the coverage at which a period is complete. It is below 1, because the weekly summary is made a minute
	// early.
	fullCoverage = 0.999
	// minCoverage is the coverage that every executor needs for its figures to represent the period. Samples are an hour
	// apart, 4 % of a day, so two hours may be lost to restarts.
	minCoverage = 0.9
	// indexAge bounds the time from the newest index to the end of the period: three samples.
	indexAge = 3 * time.Hour
)

// Summary is the body of report_<date>.json and, with the days, of summary_<week>.json. Its verdicts follow from its other
// fields: see [Summary.Judge].
type Summary struct {
	Period
	// Coverage is the share of the period that the counts cover, in [0,1]: the mean over the executors. Complete reports
	// whether at most a thousandth is missing.
	Coverage float64 `json:"coverage"`
	Complete bool    `json:"complete"`
	// Requests counts the requests of all executors. Restarts is the number of observed restarts.
	Requests uint64 `json:"requests"`
	Restarts int    `json:"restarts"`
	// Samples is the number of readings. Missing lists the services that did not answer in some of them.
	Samples int      `json:"samples"`
	Missing []Absent `json:"missing"`
	// Executors lists all executors that were asked, by address.
	Executors []Share `json:"executors"`
	// Models lists the models that answered, in order of their first sample.
	Models []evidence.Model `json:"models"`
	// Counts are the inputs of the shadow's figures.
	Counts Counts `json:"counts"`
	// Decisions counts who decided, on the executors that could be asked; nil if no gate was set.
	Decisions fleet.Decisions `json:"decisions,omitempty"`
	// Drift is the newest index, PSIMax the largest; nil without one.
	Drift  *Drift   `json:"drift"`
	PSIMax *float64 `json:"psi_max"`
	// Classifier is the result of a classifier for the week that ends with the period; nil if it did not run. It does not
	// affect the verdict.
	Classifier *twosample.Result `json:"classifier,omitempty"`
	// Quality is the newest verdict on live quality; nil without one. It does not affect the verdict of the period, which is
	// about its counts.
	Quality *Quality `json:"quality,omitempty"`
	// Verdict is the worst verdict of the figures.
	Verdict gate.Verdict `json:"verdict"`
	Figures []Figure     `json:"figures"`
}

// Absent is a service that did not answer in some of the samples.
type Absent struct {
	Service Service `json:"service"`
	Address string  `json:"address"`
	// Samples is the number of samples that lack its answer. Reason is the latest reason.
	Samples int    `json:"samples"`
	Reason  string `json:"reason"`
}

// Share is the share of the period that the counts of one executor cover, in [0,1].
type Share struct {
	Executor string  `json:"executor"`
	Coverage float64 `json:"coverage"`
}

// Counts are the shadows of all executors in a period.
type Counts struct {
	Matches    uint64 `json:"matches"`
	Mismatches uint64 `json:"mismatches"`
	Failed     uint64 `json:"failed"`
	// Latency counts shadows by duration in milliseconds. It has one more bucket than there are upper Edges.
	Edges   []float64 `json:"latency_edges_ms"`
	Latency []uint64  `json:"latency"`
	// Unlike is why latencies could not be added up; empty if they could.
	Unlike string `json:"latency_missing,omitempty"`
}

// Figure is one judged figure and what to do about it.
type Figure struct {
	gate.Result
	Action string `json:"action"`
}

// rules returns the rules for a period: those of the shadow, the drift and the coverage.
func rules() []gate.Rule {
	limits := drift.DefaultLimits()
	return append(gate.Shadow(),
		gate.Rule{
			Name: PSI, Op: gate.Below, Threshold: limits.Overall, Unit: gate.Score, MinSamples: uint64(limits.MinRows),
			What: "population stability index over the 7 days before the last sample of the period",
		},
		gate.Rule{
			Name: Coverage, Op: gate.AtLeast, Threshold: minCoverage, Unit: gate.Ratio,
			What: "share of the period covered by the counts of the least covered executor",
		},
	)
}

// actions says what to do about a figure that failed.
var actions = map[string]string{
	gate.ShadowMatch:     "compare the model with the baseline where they differ; do not promote",
	gate.ShadowErrorRate: "check the outcomes and the breaker of the executor; do not promote",
	gate.ShadowP95:       "check the load and the placement of ml-engine; do not promote",
	PSI:                  "find the feature that moved (greenlight drift snapshot); retrain if the drift persists",
}

// lookInto says what to do without data.
const lookInto = "find out why nothing was measured"

// actionOf returns what to do about a result.
func actionOf(r gate.Result) string {
	switch r.Verdict {
	case gate.Pass:
		return "none"
	case gate.Fail:
		return actions[r.Name]
	case gate.Inconclusive:
		return "wait for more data"
	default:
		return lookInto
	}
}

// Judge judges the period by its counts, its newest index and its coverage.
func (s *Summary) Judge() (gate.Verdict, []Figure) {
	card := gate.Judge(rules(), s.observations())
	figures := make([]Figure, 0, len(card.Results))
	verdicts := make([]gate.Verdict, 0, len(card.Results))
	for _, r := range card.Results {
		action := ""
		switch {
		case r.Name == PSI && s.Drift != nil:
			r.Verdict, r.Reason = s.Drift.Judge()
			if age := s.End.Sub(s.Drift.Time); age > indexAge {
				r.Verdict, action = gate.Worst(r.Verdict, gate.Inconclusive), lookInto
				r.Reason = strings.TrimPrefix(r.Reason+"; ", "; ") + fmt.Sprintf("the newest index is from %s, %s before the end",
					s.Drift.Time.UTC().Format("2006-01-02 15:04"), gate.Duration(age.Round(time.Minute)))
			}
		case r.Name == Coverage && r.Verdict == gate.Fail: // not a failure of the model, but too little data for a PASS
			r.Verdict, action = gate.Inconclusive, lookInto
			r.Reason = fmt.Sprintf("executor %s covers %s of it, at least %s is needed", s.least().Executor, gate.Ratio.Format(*r.Value), gate.Ratio.Format(r.Threshold))
		}
		if action == "" {
			action = actionOf(r)
		}
		figures, verdicts = append(figures, Figure{r, action}), append(verdicts, r.Verdict)
	}
	return gate.Worst(verdicts...), figures
}

// observations returns the values that the rules judge.
func (s *Summary) observations() map[string]gate.Observation {
	c := &s.Counts
	seen := map[string]gate.Observation{}
	for _, r := range rules() {
		seen[r.Name] = gate.Missing(s.why(r.Name))
	}
	compared := c.Matches + c.Mismatches
	if calls := compared + c.Failed; calls > 0 {
		seen[gate.ShadowMatch] = gate.Rate(c.Matches, compared)
		seen[gate.ShadowErrorRate] = gate.Rate(c.Failed, calls)
	}
	var timed uint64
	for _, n := range c.Latency {
		timed += n
	}
	switch {
	case c.Unlike != "":
		seen[gate.ShadowP95] = gate.Missing(c.Unlike)
	case timed > 0:
		seen[gate.ShadowP95] = gate.Measured(gate.HistogramQuantile(0.95, c.Edges, c.Latency), timed)
	}
	if s.Drift != nil {
		seen[PSI] = gate.Measured(s.Drift.PSI, uint64(max(0, s.Drift.Rows)))
	}
	if len(s.Executors) > 0 && s.Samples > 0 {
		seen[Coverage] = gate.Measured(s.least().Coverage, uint64(s.Samples))
	}
	return seen
}

// least returns the executor with the least coverage.
func (s *Summary) least() Share {
	return slices.MinFunc(s.Executors, func(a, b Share) int { return cmp.Compare(a.Coverage, b.Coverage) })
}

// why returns why a rule has no data.
func (s *Summary) why(rule string) string {
	if s.Samples == 0 {
		return "no sample was taken"
	}
	of := Executor
	if rule == PSI {
		of = Engine
	}
	for _, m := range s.Missing {
		if m.Service == of {
			return fmt.Sprintf("no answer from %s %s in %d of %d samples: %s", m.Service, m.Address, m.Samples, s.Samples, m.Reason)
		}
	}
	return "nothing was shadowed"
}

// Scorecard returns the figures for tables.
func (s *Summary) Scorecard() gate.Scorecard {
	var card gate.Scorecard
	for _, f := range s.Figures {
		card.Results = append(card.Results, f.Result)
	}
	return card
}
