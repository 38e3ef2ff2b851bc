package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// ErrContradicts is an answer that contradicts itself or an earlier answer of the same process.
var ErrContradicts = errors.New("an answer contradicts itself")

// contradiction returns an [ErrContradicts] of a service. The text of err must be one line: it goes into journals.
func contradiction(service string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrContradicts, service, err)
}

// CallError is a call to a service that failed.
type CallError struct {
	// Service is the kind and the address of the service.
	Service string
	Err     error
}

// maxMessageShown bounds the message of a failed call.
const maxMessageShown = 300

// Error is for people: the service, the code and the message.
func (e *CallError) Error() string {
	s := status.Convert(e.Err)
	return fmt.Sprintf("%s: %s: %s", e.Service, s.Code(), text.Clean(s.Message(), maxMessageShown))
}

// Unwrap returns the error of the call.
func (e *CallError) Unwrap() error { return e.Err }

// Report asks for the shadow report. The error is a [*CallError] or an [ErrContradicts].
func (e Executor) Report(ctx context.Context) (*executorv1.GetShadowReportResponse, error) {
	r, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return nil, &CallError{"executor " + e.Addr, err}
	}
	if err := CheckReport(r, time.Now()); err != nil {
		return nil, contradiction("executor "+e.Addr, err)
	}
	return r, nil
}

// Counters asks for the counters. The error is that of [Executor.Report].
func (e Executor) Counters(ctx context.Context) (Counters, error) {
	requested := time.Now()
	r, err := e.Report(ctx)
	if err != nil {
		return Counters{}, err
	}
	return CountersOf(e.Addr, r, requested), nil
}

// ReadCounters asks all executors at once. It returns the counters of those that answered, and the error of each in the
// order of the executors. An executor whose process answers under another name too has a [*DuplicateError].
func ReadCounters(ctx context.Context, executors []Executor) ([]Counters, []error) {
	read, errs := Each(executors, func(e Executor) (Counters, error) { return e.Counters(ctx) })
	var all []Counters
	var names, processes []string
	for i, c := range read {
		if errs[i] != nil {
			continue
		}
		if errs[i] = CheckDistinct("executor", append(names, c.Executor), append(processes, c.Process)); errs[i] != nil {
			continue
		}
		names, processes, all = append(names, c.Executor), append(processes, c.Process), append(all, c)
	}
	return all, errs
}

// Rollout asks for the rollout in force. The error is a [*CallError] or an [ErrContradicts].
func (e Executor) Rollout(ctx context.Context) (*executorv1.GetRolloutResponse, error) {
	got, err := e.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
	if err != nil {
		return nil, &CallError{"executor " + e.Addr, err}
	}
	if err := CheckRollout(got.GetInstanceId(), got.GetRollout()); err != nil {
		return nil, contradiction("executor "+e.Addr+", GetRollout", err)
	}
	return got, nil
}

// SetRollout sets the rollout. The error is a [*CallError], or an [ErrContradicts] if the answer does not confirm it.
func (e Executor) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest) (*executorv1.SetRolloutResponse, error) {
	resp, err := e.Rollouts.SetRollout(ctx, req)
	if err != nil {
		return nil, &CallError{"executor " + e.Addr, err}
	}
	if err := CheckSet(req, resp); err != nil {
		return nil, contradiction("executor "+e.Addr+", SetRollout", err)
	}
	return resp, nil
}

// AbortRollout sets 0 %, regardless of leases. The error is a [*CallError].
func (e Executor) AbortRollout(ctx context.Context, reason string) error {
	if _, err := e.Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{Reason: reason}); err != nil {
		return &CallError{"executor " + e.Addr, err}
	}
	return nil
}

// Info asks for the model that is served. The error is a [*CallError] or an [ErrContradicts].
func (e Engine) Info(ctx context.Context) (*mlenginev1.GetModelInfoResponse, error) {
	info, err := e.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
	if err != nil {
		return nil, &CallError{"ml-engine " + e.Addr, err}
	}
	if err := CheckModel(info); err != nil {
		return nil, contradiction("ml-engine "+e.Addr+", GetModelInfo", err)
	}
	return info, nil
}

// Model asks for the model that is served. The error is that of [Engine.Info].
func (e Engine) Model(ctx context.Context) (evidence.Model, error) {
	info, err := e.Info(ctx)
	return modelOf(info), err
}

func modelOf(info *mlenginev1.GetModelInfoResponse) evidence.Model {
	return evidence.Model{Version: info.GetVersion(), Digest: info.GetDigest()}
}
