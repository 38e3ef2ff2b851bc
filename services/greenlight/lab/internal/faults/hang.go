package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

// Hang is the memory use while ml-engine hangs under full load.
type Hang struct {
	DurationS float64 `json:"duration_s"`
	Asked
	// Streamed counts the decisions over streams.
	Streamed Asked `json:"streamed"`
	// First and Last are the medians of the resident memory, in bytes, in the second and the last fifth of the time. In the
	// first fifth the heap is still growing to its size. Peak is the maximum.
	First int64 `json:"rss_first_bytes"`
	Last  int64 `json:"rss_last_bytes"`
	Peak  int64 `json:"rss_peak_bytes"`
	// Tenths holds the medians of each tenth of the time.
	Tenths []Memory `json:"tenths"`
	// GoroutinesPeak and FDsPeak are the maxima.
	GoroutinesPeak int `json:"goroutines_peak"`
	FDsPeak        int `json:"fds_peak"`
}

// Memory is a reading, in bytes.
type Memory struct {
	RSS  int64 `json:"rss_bytes"`
	Heap int64 `json:"heap_bytes"`
}

// flatGrowth is how far the last fifth may exceed the second and still count as flat.
const flatGrowth = 1.05

// Flat reports whether memory did not grow.
func (h *Hang) Flat() bool { return float64(h.Last) <= flatGrowth*float64(h.First) }

// fewestReadings is the minimum for a median of each fifth of the time.
const fewestReadings = 5

// hang freezes ml-engine under full load and records the resources of the executor.
func (s *Stage) hang(ctx context.Context, e *Executor, length time.Duration) (_ *Hang, err error) {
	if err := s.Engine.Freeze(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Engine.Thaw()) }()
	all, streamed := e.asked()
	var seen []Resources
	h := &Hang{}
	// On a busy machine, readings may be too rare. Then the load continues: within 2*readTime there is a reading or an error.
	for span := length; len(seen) < fewestReadings; span = 2 * readTime {
		stop := repeat(ctx, func(ctx context.Context) error {
			r, err := e.Resources(ctx)
			if err != nil {
				return err
			}
			seen = append(seen, r)
			traffic.Pause(ctx, length/300)
			return nil
		})
		_, err := bench.ClosedLoop(ctx, underWay, span, e.decideBothWays)
		if err := errors.Join(err, stop()); err != nil {
			return nil, err
		}
		h.DurationS += span.Seconds()
	}
	h.Asked, h.Streamed = e.asked()
	h.Asked, h.Streamed = h.Asked.minus(all), h.Streamed.minus(streamed)
	var peak Resources
	for _, r := range seen {
		peak = peak.Peak(r)
	}
	h.Peak, h.GoroutinesPeak, h.FDsPeak = peak.RSS, peak.Goroutines, peak.FDs
	n := len(seen)
	h.First, h.Last = Median(seen[n/5:2*n/5]).RSS, Median(seen[n-n/5:]).RSS
	for i := range 10 {
		if part := seen[i*n/10 : (i+1)*n/10]; len(part) > 0 {
			m := Median(part)
			h.Tenths = append(h.Tenths, Memory{m.RSS, m.Heap})
		}
	}
	return h, nil
}

// notes returns its sentences for the report.
func (h *Hang) notes() []string {
	if h == nil {
		return nil
	}
	flat := "flat"
	if !h.Flat() {
		flat = "NOT flat"
	}
	var rss, heap []string
	for _, m := range h.Tenths {
		rss, heap = append(rss, fmt.Sprintf("%.1f", float64(m.RSS)/1e6)), append(heap, fmt.Sprintf("%.1f", float64(m.Heap)/1e6))
	}
	return []string{
		fmt.Sprintf("Memory while ml-engine hangs under full load for %.0f s (%d decisions, %d lost, %d changed): %s in the second fifth of the time, %s in the last, %s at most: %s, which is at most %.0f %% more in the last than in the second. At most %d goroutines and %d file descriptors.",
			h.DurationS, h.Requests, h.Lost, h.Changed, megabytes(h.First), megabytes(h.Last), megabytes(h.Peak), flat, 100*(flatGrowth-1), h.GoroutinesPeak, h.FDsPeak),
		fmt.Sprintf("Its medians by tenths of the time, in MB: resident %s; heap in use %s.", strings.Join(rss, ", "), strings.Join(heap, ", ")),
	}
}
