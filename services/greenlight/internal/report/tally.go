package report

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

// Summarize sums up a period from the samples, which are in the order of time.
func Summarize(p Period, samples []Sample) Summary {
	t := tallyOf(p, samples)
	for _, executor := range slices.Sorted(maps.Keys(t.covered)) {
		share := float64(t.covered[executor]) / float64(p.End.Sub(p.Start))
		t.Executors = append(t.Executors, Share{executor, share})
		t.Coverage += share
	}
	if n := len(t.Executors); n > 0 {
		t.Coverage /= float64(n)
	}
	t.Complete = t.Coverage >= fullCoverage
	t.Verdict, t.Figures = t.Judge()
	return t.Summary
}

func tallyOf(p Period, samples []Sample) tally {
	t := tally{
		Summary: Summary{Period: p, Missing: []Absent{}, Executors: []Share{}, Models: []evidence.Model{}},
		last:    make(map[string]Counters), seen: make(map[string]time.Time), covered: make(map[string]time.Duration), sources: make(evidence.Sources),
	}
	for _, s := range samples {
		t.add(s)
	}
	return t
}

// SourceOf returns the source of a period: the least live that its samples claim or its requests came from. For a period
// without samples it is that of the newest sample of all; live when there is none.
func SourceOf(p Period, samples []Sample) evidence.Source {
	t := tallyOf(p, samples)
	if t.Samples > 0 {
		return t.sources.Least(evidence.Live)
	}
	if n := len(samples); n > 0 {
		return t.sources.Least(samples[n-1].Source)
	}
	return evidence.Live
}

// tally adds up the differences of samples within a period.
type tally struct {
	Summary

	// last and seen are the newest counters of each executor, and when they were read.
	last map[string]Counters
	seen map[string]time.Time
	// covered is the time of the period that the counts are of, by executor.
	covered map[string]time.Duration
	// sources counts requests by where they came from, and each sample by what it claims.
	sources evidence.Sources
}

func (t *tally) add(s Sample) {
	if t.has(s.Time, s.Time) {
		t.Samples++
		t.sources[s.Source]++
		t.index(s.Drift)
		for _, m := range s.Missing {
			t.absent(m)
		}
	}
	for _, c := range s.Executors {
		before, known := t.last[c.Executor]
		from := t.seen[c.Executor]
		anew := !known || !before.goesOn(c)
		if anew { // it counted from zero when it started
			before, from = Counters{}, c.Start
			if from.After(s.Time) {
				from = s.Time
			}
		}
		t.last[c.Executor], t.seen[c.Executor] = c, s.Time
		if t.within(from, s.Time) > 0 {
			t.covered[c.Executor] += 0 // it was there, whether or not its counts can be told apart
		}
		if !t.has(from, s.Time) {
			continue
		}
		if known && anew {
			t.Restarts++
		}
		t.covered[c.Executor] += t.within(from, s.Time)
		t.count(before, c)
	}
}

// index takes the index of a sample.
func (t *tally) index(d *Drift) {
	if d == nil {
		return
	}
	t.Drift = d
	if t.PSIMax == nil || d.PSI > *t.PSIMax {
		t.PSIMax = &d.PSI
	}
}

// absent takes a service that said nothing.
func (t *tally) absent(m Missing) {
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

// count adds a difference.
func (t *tally) count(before, now Counters) {
	if now.Model.Digest != "" && !slices.Contains(t.Models, now.Model) {
		t.Models = append(t.Models, now.Model)
	}
	for source, n := range now.Sources {
		t.sources[source] += n - min(n, before.Sources[source])
	}
	c := &t.Counts
	t.Requests += now.Requests - before.Requests
	c.Matches += now.Matches - before.Matches
	c.Mismatches += now.Mismatches - before.Mismatches
	c.Failed += now.Failed - before.Failed
	switch {
	case len(now.Latency) != len(now.Edges)+1, before.Latency != nil && !slices.Equal(before.Edges, now.Edges):
		c.Unlike = fmt.Sprintf("executor %s has no histogram of latencies that goes on", now.Executor)
		return
	case c.Latency == nil:
		c.Edges, c.Latency = now.Edges, make([]uint64, len(now.Latency))
	case !slices.Equal(c.Edges, now.Edges):
		c.Unlike = fmt.Sprintf("executor %s has other latency buckets than the rest", now.Executor)
		return
	}
	for i, n := range now.Latency {
		if before.Latency != nil {
			n -= before.Latency[i]
		}
		c.Latency[i] += n
	}
}
