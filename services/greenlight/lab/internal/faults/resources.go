package faults

import (
	"context"
	"fmt"

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
