// Package report summarizes the services over UTC days and ISO weeks. Every reading is a [Sample] in a [Journal]. The counts
// of a period are the sum of the differences between consecutive samples.
package report

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// journalName is the journal in a state folder.
const journalName = "samples.jsonl"

// Journal is an append-only file of samples, one JSON line each. Only one process at a time may append to it.
type Journal struct{ lines *durable.Lines }

// OpenJournal opens the journal of a state folder for appending, or creates it. It removes an incomplete last line, which a
// kill left: that sample was never acknowledged.
func OpenJournal(dir string) (*Journal, error) {
	lines, err := durable.OpenLines(filepath.Join(dir, journalName), maxLine)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{lines}, nil
}

// maxLine bounds the line of a sample, in bytes. It is enough for thousands of executors.
const maxLine = 16 << 20

// Append adds a sample. It is on disk when Append returns. After an error, [durable.Unsure] reports whether it may be there.
func (j *Journal) Append(s Sample) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return j.lines.Append(append(line, '\n'))
}

// Close closes the file.
func (j *Journal) Close() error { return j.lines.Close() }

// Scan calls visit for every sample of a state folder in file order. It holds one sample at a time and skips a line that is
// still being written. It returns an error if there is no journal, or if a line is not a sample.
func Scan(dir string, visit func(Sample)) error {
	path, n := filepath.Join(dir, journalName), 0
	for line, err := range durable.ReadLines(path, maxLine) {
		if err != nil {
			return err
		}
		n++
		var s Sample
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("%s line %d is not a sample: %w", path, n, err)
		}
		visit(s)
	}
	return nil
}

// ReadJournal reads the samples since a time, in order of time. It drops samples that were taken by a wrong clock. Before them
// it returns, as separate samples, the newest earlier counters of every executor: the base of the first differences. Its
// memory depends on the time span, not on the length of the journal.
func ReadJournal(dir string, since time.Time) ([]Sample, error) {
	var samples []Sample
	before := map[string]Sample{}
	if err := Scan(dir, func(s Sample) {
		if !s.Time.Before(since) {
			samples = append(samples, s)
			return
		}
		for _, c := range s.Executors {
			before[c.Executor] = Sample{Time: s.Time, Source: s.Source, Executors: []Counters{c}}
		}
	}); err != nil {
		return nil, err
	}
	var carried []Sample
	for _, s := range before {
		carried = append(carried, s)
	}
	slices.SortFunc(carried, func(a, b Sample) int { return a.Time.Compare(b.Time) })
	return append(carried, inOrder(samples)...), nil
}

// inOrder returns the longest run of samples in order of time. The others were taken by a wrong clock.
func inOrder(samples []Sample) []Sample {
	if slices.IsSortedFunc(samples, func(a, b Sample) int { return a.Time.Compare(b.Time) }) {
		return samples
	}
	// ends[n] is the last sample of the run of n+1 samples that ends earliest. before[i] is the predecessor of i in its run.
	var ends []int
	before := make([]int, len(samples))
	for i, s := range samples {
		n := sort.Search(len(ends), func(n int) bool { return samples[ends[n]].Time.After(s.Time) })
		before[i] = -1
		if n > 0 {
			before[i] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, i)
		} else {
			ends[n] = i
		}
	}
	run := make([]Sample, len(ends))
	for i, k := ends[len(ends)-1], len(ends)-1; k >= 0; i, k = before[i], k-1 {
		run[k] = samples[i]
	}
	return run
}
