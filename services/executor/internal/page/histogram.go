package page

import "time"

// Histogram counts observations in buckets.
type Histogram struct {
	// Edges are the inclusive upper edges of the buckets. One more bucket without an edge follows the last.
	Edges []float64 `json:"edges"`
	// Counts are the observations per bucket, not cumulative. There is one more than Edges.
	Counts []uint64 `json:"counts"`
	// N is their sum.
	N uint64 `json:"n"`
}

// within returns the number of observations up to the edge.
func (h Histogram) within(edge float64) uint64 {
	n := uint64(0)
	for i, e := range h.Edges {
		if e <= edge {
			n += h.Counts[i]
		}
	}
	return n
}

// less returns h without the observations of an earlier reading.
func (h Histogram) less(earlier Histogram) Histogram {
	if len(earlier.Counts) != len(h.Counts) {
		return h
	}
	d := Histogram{Edges: h.Edges, Counts: make([]uint64, len(h.Counts)), N: h.N - earlier.N}
	for i := range d.Counts {
		d.Counts[i] = h.Counts[i] - earlier.Counts[i]
	}
	return d
}

const (
	// longest is the length of the window.
	longest = 5 * time.Minute
	// shortest is how long there must be viewers before the window replaces the time since start.
	shortest = 30 * time.Second
)

// window turns histograms since start into histograms of the last minutes, as long as there are viewers. Without it, weeks of
// fast answers would hide a baseline that is slow now.
type window struct {
	readings []reading // oldest first
}

type reading struct {
	time  time.Time
	named map[string]Histogram
}

// add adds a reading. It returns the histograms of the window that ends with it, and its length; 0 means since the start.
func (w *window) add(now time.Time, named map[string]Histogram) (map[string]Histogram, time.Duration) {
	for len(w.readings) > 0 && now.Sub(w.readings[0].time) > longest {
		w.readings = w.readings[1:]
	}
	w.readings = append(w.readings, reading{now, named})
	first := w.readings[0]
	length := now.Sub(first.time)
	if length < shortest {
		return named, 0
	}
	recent := make(map[string]Histogram, len(named))
	for name, h := range named {
		recent[name] = h.less(first.named[name])
	}
	return recent, length
}
