package faults

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Resources are the resources of a process.
type Resources struct {
	Goroutines int `json:"goroutines"`
	// FDs are open file descriptors.
	FDs int `json:"fds"`
	// RSS is resident memory, Heap the Go heap in use, in bytes.
	RSS  int64 `json:"rss_bytes"`
	Heap int64 `json:"heap_bytes"`
}

// How much a steady process may grow: one more connection, or garbage that is not collected yet.
const slackGoroutines, slackFDs = 20, 8

// Grew describes what grew from earlier to later by more than a steady process may. Each test judges memory itself.
func (r Resources) Grew(later Resources) (grew Misses) {
	grew.Add(later.Goroutines > r.Goroutines+slackGoroutines, "goroutines grew from %d to %d", r.Goroutines, later.Goroutines)
	grew.Add(later.FDs > r.FDs+slackFDs, "file descriptors grew from %d to %d", r.FDs, later.FDs)
	return grew
}

// Peak returns the maximum of each figure.
func (r Resources) Peak(other Resources) Resources {
	return Resources{max(r.Goroutines, other.Goroutines), max(r.FDs, other.FDs), max(r.RSS, other.RSS), max(r.Heap, other.Heap)}
}

// Median returns the median of every figure.
func Median(readings []Resources) Resources {
	return Resources{
		median(readings, func(r Resources) int { return r.Goroutines }), median(readings, func(r Resources) int { return r.FDs }),
		median(readings, func(r Resources) int64 { return r.RSS }), median(readings, func(r Resources) int64 { return r.Heap }),
	}
}

func median[T cmp.Ordered](readings []Resources, of func(Resources) T) T {
	values := make([]T, len(readings))
	for i, r := range readings {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// readTime limits the time of a reading.
const readTime = 5 * time.Second

// Resources reads the resources of the executor from /proc and from its metrics.
func (e *Executor) Resources(ctx context.Context) (r Resources, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	raw, err := rig.Get(ctx, e.Process, "/metrics")
	if err != nil {
		return r, fmt.Errorf("%s: %w", e.Name, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(raw))
	if err != nil {
		return r, fmt.Errorf("%s: metrics: %w", e.Name, err)
	}
	gauge := func(name string) float64 {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 {
			err = errors.Join(err, fmt.Errorf("%s has no %s", e.Name, name))
			return 0
		}
		return metrics[0].GetGauge().GetValue()
	}
	r.Goroutines, r.Heap = int(gauge("go_goroutines")), int64(gauge("go_memstats_heap_inuse_bytes"))
	rss, unread := e.Process.Resident()
	fds, unlisted := durable.ReadDir(fmt.Sprintf("/proc/%d/fd", e.Process.PID()), durable.MaxEntries)
	r.RSS, r.FDs = rss, len(fds)
	return r, errors.Join(err, unread, unlisted)
}
