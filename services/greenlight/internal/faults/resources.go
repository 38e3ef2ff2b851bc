package faults

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	pid := e.Process.PID()
	if r.RSS, err = rss(pid); err != nil {
		return r, fmt.Errorf("%s: %w", e.Name, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	r.FDs = len(fds)
	return r, err
}

// rss is the resident memory of the process, in bytes.
func rss(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm has %d fields", pid, len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
