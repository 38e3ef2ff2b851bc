package cli

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// sample reads all services at once, each within its own timeout: one that hangs does not hide the others. A service that
// does not answer is missing in the sample.
func (f *agentFlags) sample(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
	var executors []fleet.Counters
	var errs []error
	var drift *driftfleet.Report
	var missing string
	var wg sync.WaitGroup
	wg.Go(func() { executors, errs = f.counters(ctx) })
	wg.Go(func() {
		if err := f.engines.dial(func(replicas []fleet.Engine) (err error) {
			drift, err = f.engines.read(ctx, replicas, true)
			return err
		}); err != nil {
			drift, missing = nil, err.Error()
		} else if drift.Overall == nil {
			missing = drift.Reason
		}
	})
	wg.Wait()
	s := report.Sample{Time: now, Executors: []report.Counters{}}
	for _, c := range executors {
		s.Executors = append(s.Executors, report.CountersOf(c))
	}
	for i, addr := range f.executors {
		if errs[i] != nil {
			s.Missing = append(s.Missing, report.Missing{Service: report.Executor, Address: addr, Reason: fleet.Plain(errs[i]).Error()})
		}
	}
	if missing != "" {
		s.Missing = append(s.Missing, report.Missing{Service: report.Engine, Address: strings.Join(f.engines.addrs, ","), Reason: missing})
	}
	if drift != nil {
		s.Drift = report.DriftOf(drift, now)
	}
	return s, drift
}

// counters reads the counters of all executors: of those that answer, and the error of each.
func (f *agentFlags) counters(ctx context.Context) ([]fleet.Counters, []error) {
	ctx, cancel := context.WithTimeout(ctx, f.engines.timeout)
	defer cancel()
	services, err := fleet.Connect(f.engines.connect, nil, f.executors)
	if err != nil {
		return nil, slices.Repeat([]error{err}, len(f.executors))
	}
	all, errs := fleet.ReadCounters(ctx, services.Executors)
	_ = services.Close() // the answers are there
	return all, errs
}
