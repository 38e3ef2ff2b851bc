package fleet

import (
	"context"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Snapshot is one reading of all services, in order.
type Snapshot struct {
	// Time is when they were called, by this machine's clock.
	Time      time.Time
	Executors []ExecutorReading
	Engines   []EngineReading
}

// ExecutorReading has the answers of one executor. Each answer is valid, or it is nil and its error is set.
type ExecutorReading struct {
	Addr       string
	Report     *executorv1.GetShadowReportResponse
	ReportErr  error
	Rollout    *executorv1.GetRolloutResponse
	RolloutErr error
	// Ahead is how far the executor's clock is ahead of this machine's; zero if the round trip explains the difference.
	Ahead time.Duration

	// Raw has the unvalidated answers. They may contradict themselves: show them, but do not judge by them.
	Raw struct {
		Report  *executorv1.GetShadowReportResponse
		Rollout *executorv1.GetRolloutResponse
	}
}

// Err returns the first error of the executor.
func (r *ExecutorReading) Err() error {
	if r.RolloutErr != nil {
		return r.RolloutErr
	}
	return r.ReportErr
}

// EngineReading has the answer of one ml-engine. Info is nil if Err is not.
type EngineReading struct {
	Addr string
	Info *mlenginev1.GetModelInfoResponse
	Err  error
	// Raw is the unvalidated answer: see [ExecutorReading].
	Raw *mlenginev1.GetModelInfoResponse
}

// Snapshot calls all services concurrently, and waits until they answer or ctx ends.
func (s *Services) Snapshot(ctx context.Context) *Snapshot {
	now := &Snapshot{Time: time.Now(), Executors: make([]ExecutorReading, len(s.Executors)), Engines: make([]EngineReading, len(s.Engines))}
	var calls []func()
	for i, e := range s.Executors {
		r := &now.Executors[i]
		r.Addr = e.Addr
		calls = append(calls, func() {
			r.Raw.Rollout, r.RolloutErr = e.rollout(ctx)
			r.Rollout, _ = valid(r.Raw.Rollout, r.RolloutErr)
		}, func() {
			var sent time.Time
			r.Raw.Report, sent, r.ReportErr = e.report(ctx)
			if r.Report, _ = valid(r.Raw.Report, r.ReportErr); r.Report == nil {
				return
			}
			took := time.Since(sent)
			if _, ok := e.Shadows.(Reporter); ok {
				took = 0 // the executor sent it right after making it
			}
			if ahead := r.Report.GetReportTime().AsTime().Sub(sent.Add(took / 2)); ahead.Abs() > took/2 {
				r.Ahead = ahead
			}
		})
	}
	for i, e := range s.Engines {
		r := &now.Engines[i]
		r.Addr = e.Addr
		calls = append(calls, func() {
			r.Raw, r.Err = e.info(ctx)
			r.Info, _ = valid(r.Raw, r.Err)
		})
	}
	_, errs := Each(calls, func(call func()) (struct{}, error) { call(); return struct{}{}, nil })
	Rethrow(errs...)
	return now
}

// Models returns the models that are served by the ml-engines that answered.
func (s *Snapshot) Models() []evidence.Model {
	var all []evidence.Model
	for _, e := range s.Engines {
		if e.Info != nil {
			all = append(all, modelOf(e.Info))
		}
	}
	return all
}

// Baselines returns the baselines of the executors that answered.
func (s *Snapshot) Baselines() []evidence.Model {
	var all []evidence.Model
	for _, e := range s.Executors {
		if e.Report != nil {
			all = append(all, evidence.Model{Version: e.Report.GetBaselineVersion(), Digest: e.Report.GetBaselineDigest()})
		}
	}
	return all
}

// Duplicate returns an [ErrDuplicate] if two of the executors are one process.
func (s *Snapshot) Duplicate() error {
	var names, processes []string
	for _, e := range s.Executors {
		if e.Report != nil {
			names, processes = append(names, e.Addr), append(processes, e.Report.GetInstanceId())
		}
	}
	return CheckDistinct("executor", names, processes)
}
