package faults

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Resources are what a process holds.
type Resources struct {
	Goroutines int `json:"goroutines"`
	// FDs are open file descriptors.
	FDs int `json:"fds"`
	// RSS is resident memory, Heap what Go's heap has in use, in bytes.
	RSS  int64 `json:"rss_bytes"`
	Heap int64 `json:"heap_bytes"`
}

// Resources reads what the executor holds: from outside, in /proc, and from its metrics.
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

// client keeps no connection to a service: that would be a file descriptor of its.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// scrape reads what a process says of itself.
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
