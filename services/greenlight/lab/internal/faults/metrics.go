package faults

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Resources are the resources of a process.
type Resources struct {
	Goroutines int `json:"goroutines"`
	// FDs are open file descriptors.
	FDs int `json:"fds"`
	// RSS is resident memory, Heap what Go's heap has in use, in bytes.
	RSS  int64 `json:"rss_bytes"`
	Heap int64 `json:"heap_bytes"`
}

// By how much a steady process may grow: one more connection, or garbage that is not collected yet.
const slackGoroutines, slackFDs = 20, 8

// Grew lists in words what grew more in later than a steady process may. Each test judges memory itself.
func (r Resources) Grew(later Resources) []string {
	var grew []string
	if later.Goroutines > r.Goroutines+slackGoroutines {
		grew = append(grew, fmt.Sprintf("goroutines grew from %d to %d", r.Goroutines, later.Goroutines))
	}
	if later.FDs > r.FDs+slackFDs {
		grew = append(grew, fmt.Sprintf("file descriptors grew from %d to %d", r.FDs, later.FDs))
	}
	return grew
}

// Peak returns the larger of the two for every figure.
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

// Resources reads the resources of the executor from /proc and from its metrics.
func (e *Executor) Resources(ctx context.Context) (Resources, error) {
	r, err := scrape(ctx, "http://"+e.Process.Addr("http")+"/metrics")
	if err != nil {
		return r, fmt.Errorf("%s: %w", e.Name, err)
	}
	if r.RSS, err = e.Process.Resident(); err != nil {
		return r, fmt.Errorf("%s: %w", e.Name, err)
	}
	fds, err := durable.ReadDir(fmt.Sprintf("/proc/%d/fd", e.Process.PID()), durable.MaxEntries)
	r.FDs = len(fds)
	return r, err
}

// client keeps no idle connection to a service: it would count as one of the service's file descriptors.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// scrape reads the resources of a process from its metrics.
func scrape(ctx context.Context, url string) (Resources, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return Resources{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Resources{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return Resources{}, fmt.Errorf("%s: %w", url, err)
	}
	gauge := func(name string) (float64, error) {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 {
			return 0, fmt.Errorf("%s has no %s", url, name)
		}
		return metrics[0].GetGauge().GetValue(), nil
	}
	goroutines, err := gauge("go_goroutines")
	if err != nil {
		return Resources{}, err
	}
	heap, err := gauge("go_memstats_heap_inuse_bytes")
	return Resources{Goroutines: int(goroutines), Heap: int64(heap)}, err
}
