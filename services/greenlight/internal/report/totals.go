package report

import (
	"maps"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Summarize summarizes a period. The samples must be in order of time.
func Summarize(p Period, samples []Sample) Summary {
	t := totalsOf(p, samples)
	for _, executor := range slices.Sorted(maps.Keys(t.covered)) {
		share := float64(t.covered[executor]) / float64(p.End.Sub(p.Start))
		t.Executors = append(t.Executors, Share{executor, share})
		t.Coverage += share
	}
	if n := len(t.Executors); n > 0 {
		t.Coverage /= float64(n)
	}
	t.Complete = t.Coverage >= fullCoverage
	t.Requests = t.sum.Requests
	t.Counts = Counts{
		Matches: t.sum.Of(shadow.Match), Mismatches: t.sum.Of(shadow.Mismatch), Failed: t.sum.Outcomes[anyFailure],
		Edges: t.sum.Latency.Edges, Latency: t.sum.Latency.Counts, Unlike: t.sum.LatencyMissing,
	}
	if t.sum.Decisions.Gated() {
		t.Decisions = t.sum.Decisions
	}
	t.Verdict, t.Figures = t.Judge()
	return t.Summary
}

func totalsOf(p Period, samples []Sample) totals {
	t := totals{
		Summary: Summary{Period: p, Missing: []Absent{}, Executors: []Share{}, Models: []evidence.Model{}},
		last:    make(map[string]reading), covered: make(map[string]time.Duration), sources: make(evidence.Sources),
	}
	for _, s := range samples {
		t.add(s)
	}
	return t
}

// SourceOf returns the source of a period: the least live one that its samples claim or its requests came from. Without
// samples in the period, it is the source of the newest sample of all; live if there is none.
func SourceOf(p Period, samples []Sample) evidence.Source {
	t := totalsOf(p, samples)
	if t.Samples > 0 {
		return t.sources.Least(evidence.Live)
	}
	if n := len(samples); n > 0 {
		return t.sources.Least(samples[n-1].Source)
	}
	return evidence.Live
}

// totals adds up the differences of samples within a period.
type totals struct {
	Summary

	sum fleet.Sum
	// last is the newest reading of each executor.
	last map[string]reading
	// covered is how much of the period the counts cover, by executor.
	covered map[string]time.Duration
	// sources counts requests by source, and each sample by the source it claims.
	sources evidence.Sources
}

// reading holds the counters of an executor and the time of their sample.
type reading struct {
	fleet.Counters

	at time.Time
}

func (t *totals) add(s Sample) {
	if t.has(s.Time, s.Time) {
		t.Samples++
		t.sources[s.Source]++
		t.index(s.Drift)
		if s.Quality != nil {
			t.Quality = s.Quality
		}
		for _, m := range s.Missing {
			t.absent(m)
		}
	}
	for _, line := range s.Executors {
		c := line.counters()
		before, known := t.last[c.Executor]
		counted, from := c.Counts, c.Start // a process counts from zero when it starts
		restarted := known && !fleet.SameProcess(before.Counters, c)
		if known {
			// FromZero has no errors.
			counted, _ = fleet.Delta(before.Counters, c, fleet.FromZero)
		}
		if known && !restarted {
			from = before.at
		} else if from.After(s.Time) {
			from = s.Time
		}
		t.last[c.Executor] = reading{c, s.Time}
		if t.within(from, s.Time) > 0 {
			t.covered[c.Executor] += 0 // it answered, even if its counts cannot be assigned to the period
		}
		if !t.has(from, s.Time) {
			continue
		}
		if restarted {
			t.Restarts++
		}
		t.covered[c.Executor] += t.within(from, s.Time)
		t.count(c, counted)
	}
}

// index records the drift of a sample.
func (t *totals) index(d *Drift) {
	if d == nil {
		return
	}
	t.Drift = d
	if t.PSIMax == nil || d.PSI > *t.PSIMax {
		t.PSIMax = &d.PSI
	}
}

// absent records a service that did not answer.
func (t *totals) absent(m Missing) {
	if m.Service == Executor {
		t.covered[m.Address] += 0
	}
	for i := range t.Missing {
		if a := &t.Missing[i]; a.Service == m.Service && a.Address == m.Address {
			a.Samples, a.Reason = a.Samples+1, m.Reason
			return
		}
	}
	t.Missing = append(t.Missing, Absent{m.Service, m.Address, 1, m.Reason})
}

// count adds the counts of an executor.
func (t *totals) count(c fleet.Counters, counted fleet.Counts) {
	if c.Model.Digest != "" && !slices.Contains(t.Models, c.Model) {
		t.Models = append(t.Models, c.Model)
	}
	for source, n := range counted.Sources {
		t.sources[source] += n
	}
	t.sum.Add(c.Executor, counted)
}
