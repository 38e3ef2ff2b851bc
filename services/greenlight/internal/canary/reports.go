package canary

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Executor is one executor under control.
type Executor struct {
	// Addr names it in messages and evidence.
	Addr     string
	Rollouts executorv1.RolloutServiceClient
	Shadows  executorv1.ShadowServiceClient
	// Revision is that of the rollout that the run begins from: a change since is somebody else's. 0 is any.
	Revision uint64
}

// Reports is the source that asks the executors themselves.
type Reports []Executor

// Read implements [Source].
func (r Reports) Read(ctx context.Context) ([]Counters, error) {
	reports, errs := each(r, func(e Executor) (Counters, error) {
		asked := time.Now()
		report, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
		if err != nil {
			return Counters{}, &callError{e.Addr, err}
		}
		if err := fleet.CheckReport(report, time.Now()); err != nil {
			return Counters{}, contradicts("executor "+e.Addr, err)
		}
		return countersOf(e.Addr, report, asked), nil
	})
	rethrow(errs)
	var all []Counters
	var names, processes []string
	for i, c := range reports {
		if errs[i] != nil {
			continue
		}
		names, processes = append(names, c.Executor), append(processes, c.Process)
		if err := fleet.CheckDistinct("executor", names, processes); err != nil {
			return all, errors.Join(append(errs, err)...)
		}
		all = append(all, c)
	}
	return all, errors.Join(errs...)
}

func countersOf(addr string, r *executorv1.GetShadowReportResponse, at time.Time) Counters {
	c := Counters{
		Executor: addr, Process: r.GetInstanceId(), Instance: r.GetInstanceId(), Start: r.GetStartTime().AsTime(), Time: at, Percent: r.GetSamplePercent(), Requests: r.GetRequestsTotal(),
		Outcomes: make(map[string]uint64), Sources: fleet.SourcesOf(r), Edges: r.GetLatencyMsTotal().GetEdges(), Latency: r.GetLatencyMsTotal().GetCounts(),
		Baseline: evidence.Model{Version: r.GetBaselineVersion(), Digest: r.GetBaselineDigest()},
		Model:    evidence.Model{Version: r.GetShadowVersion(), Digest: r.GetShadowDigest()},
	}
	for _, o := range r.GetOutcomesTotal() {
		c.Outcomes[shadow.Outcome(o.GetOutcome()).String()] = o.GetCount() // a valid report has each once
	}
	return c
}

// each calls fn for all of them concurrently, waits, and returns their answers and errors in the same order. A panic of fn
// is an error.
func each[T, R any](all []T, fn func(T) (R, error)) ([]R, []error) {
	answers, errs := make([]R, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() {
			if err := guard(func() { answers[i], errs[i] = fn(one) }); err != nil {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return answers, errs
}

// rethrow panics again with a panic that [each] has recovered.
func rethrow(errs []error) {
	if broken := (*panicError)(nil); errors.As(errors.Join(errs...), &broken) {
		panic(broken) //nolint:forbidigo // it was one, in another goroutine
	}
}

// contradicts is an answer that cannot be.
func contradicts(who string, err error) error {
	return fmt.Errorf("%w: %s: %s", errContradicts, who, oneLine(err))
}

// callError is a call to an executor that failed.
type callError struct {
	executor string
	err      error
}

// Error is for people: without the form that gRPC gives it.
func (e *callError) Error() string {
	s := status.Convert(e.err)
	return fmt.Sprintf("executor %s: %s: %s", e.executor, s.Code(), text.Clean(s.Message(), maxShownError))
}

// Unwrap is the call's error.
func (e *callError) Unwrap() error { return e.err }
