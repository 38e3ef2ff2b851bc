package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// look looks at all services at once, each within the timeout of its own, so that one that hangs keeps no other from
// being seen. One that says nothing is missing in the sample.
func (f *agentFlags) look(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
	answers, errs := make([]report.Counters, len(f.executors)), make([]error, len(f.executors))
	var drift *driftfleet.Report
	var missing string
	var wg sync.WaitGroup
	for i, addr := range f.executors {
		wg.Go(func() { answers[i], errs[i] = f.counters(ctx, addr) })
	}
	wg.Go(func() {
		if err := f.engines.dial(func(replicas []driftfleet.Replica) (err error) {
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
	var names, processes []string
	for i, addr := range f.executors {
		if errs[i] == nil { // one process under two names counts once
			names, processes = append(names, addr), append(processes, answers[i].Instance)
			if errs[i] = fleet.CheckDistinct("executor", names, processes); errs[i] != nil {
				names, processes = names[:len(names)-1], processes[:len(processes)-1]
			}
		}
		if errs[i] != nil {
			s.Missing = append(s.Missing, report.Missing{Service: report.Executor, Address: addr, Reason: fleet.Plain(errs[i]).Error()})
			continue
		}
		s.Executors = append(s.Executors, answers[i])
	}
	if missing != "" {
		s.Missing = append(s.Missing, report.Missing{Service: report.Engine, Address: strings.Join(f.engines.addrs, ","), Reason: missing})
	}
	if drift != nil {
		s.Drift = report.DriftOf(drift, now)
	}
	return s, drift
}

// counters are those of one executor.
func (f *agentFlags) counters(ctx context.Context, addr string) (c report.Counters, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.engines.timeout)
	defer cancel()
	at := endpoint{f.engines.accessFlags, addr}
	return c, at.dial(func(conn *grpc.ClientConn) error {
		got, err := executorv1.NewShadowServiceClient(conn).GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
		if err != nil {
			return err
		}
		if err := fleet.CheckReport(got, time.Now()); err != nil {
			return fmt.Errorf("the report contradicts itself: %w", err)
		}
		c = report.CountersOf(addr, got)
		return nil
	})
}
