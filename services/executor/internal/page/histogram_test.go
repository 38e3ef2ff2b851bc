package page

import (
	"slices"
	"testing"
	"time"
)

// A baseline that becomes slow shows within five minutes, however long it was fast.
func TestWindow(t *testing.T) {
	w, start := window{}, time.Unix(1_700_000_000, 0)
	// at returns the histogram of the window with one slow answer per second since the start, after a million fast ones.
	at := func(seconds int) (Histogram, time.Duration) {
		slow := uint64(seconds)
		named := map[string]Histogram{baselineLatency: {Edges: []float64{1}, Counts: []uint64{1_000_000, slow}, N: 1_000_000 + slow}}
		recent, length := w.add(start.Add(time.Duration(seconds)*time.Second), named)
		return recent[baselineLatency], length
	}
	for _, tt := range []struct {
		second int
		counts []uint64
		length time.Duration
	}{
		{0, []uint64{1_000_000, 0}, 0},
		{29, []uint64{1_000_000, 29}, 0},
		{30, []uint64{0, 30}, 30 * time.Second},
		{300, []uint64{0, 300}, 5 * time.Minute},
		{310, []uint64{0, 281}, 281 * time.Second}, // the reading of second 29 is the oldest within five minutes
		{7200, []uint64{1_000_000, 7200}, 0},       // no viewers for two hours
	} {
		got, length := at(tt.second)
		if !slices.Equal(got.Counts, tt.counts) || length != tt.length || got.N != tt.counts[0]+tt.counts[1] {
			t.Errorf("second %d: got %+v of %v, want %v of %v", tt.second, got, length, tt.counts, tt.length)
		}
	}
}
