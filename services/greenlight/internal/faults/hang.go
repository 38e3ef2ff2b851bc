package faults

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/bench"
)

// Hang is memory while ml-engine hangs under full load.
type Hang struct {
	DurationS float64 `json:"duration_s"`
	Requests  int64   `json:"requests"`
	Lost      int64   `json:"lost"`
	Changed   int64   `json:"changed"`
	// First and Last are the medians of the resident memory, in bytes, of the second and the last fifth of the time; the
	// first fifth is for the heap to find its size. Peak is the largest.
	First int64 `json:"rss_first_bytes"`
	Last  int64 `json:"rss_last_bytes"`
	Peak  int64 `json:"rss_peak_bytes"`
	// GoroutinesPeak and FDsPeak are the largest seen.
	GoroutinesPeak int `json:"goroutines_peak"`
	FDsPeak        int `json:"fds_peak"`
}

// flatGrowth is how much more the last fifth may have than the second and still be flat.
const flatGrowth = 1.05

// Flat says whether memory did not grow.
func (h *Hang) Flat() bool { return float64(h.Last) <= flatGrowth*float64(h.First) }

// hang freezes ml-engine under full load and watches what the executor holds.
func (s *Stage) hang(ctx context.Context, e *Executor, length time.Duration) (_ *Hang, err error) {
	if err := s.Engine.Freeze(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Engine.Thaw()) }()
	sent, lost, changed := e.tally.sent.Load(), e.tally.lost.Load(), e.tally.changed.Load()
	var seen []Resources
	stop := repeat(ctx, func(ctx context.Context) error {
		r, err := e.Resources(ctx)
		if err != nil {
			return err
		}
		seen = append(seen, r)
		Pause(ctx, length/300)
		return nil
	})
	_, err = bench.ClosedLoop(ctx, saturating, length, e.decide)
	if err := errors.Join(err, stop()); err != nil {
		return nil, err
	}
	h := &Hang{
		DurationS: length.Seconds(), Requests: e.tally.sent.Load() - sent, Lost: e.tally.lost.Load() - lost, Changed: e.tally.changed.Load() - changed,
	}
	if len(seen) < 5 {
		return nil, errors.New("hang: too few readings of memory")
	}
	for _, r := range seen {
		h.Peak, h.GoroutinesPeak, h.FDsPeak = max(h.Peak, r.RSS), max(h.GoroutinesPeak, r.Goroutines), max(h.FDsPeak, r.FDs)
	}
	n := len(seen)
	h.First, h.Last = medianRSS(seen[n/5:2*n/5]), medianRSS(seen[n-n/5:])
	return h, nil
}

func medianRSS(seen []Resources) int64 {
	sorted := make([]int64, len(seen))
	for i, r := range seen {
		sorted[i] = r.RSS
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
