package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// ErrContradicts means that an answer contradicts itself or an earlier answer of the same process.
var ErrContradicts = errors.New("an answer contradicts itself")

// contradiction returns an [ErrContradicts] for a service. The text of err must be one line, because it is written to
// journals.
func contradiction(service string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrContradicts, service, err)
}

// CallError means that a call to a service failed.
type CallError struct {
	// Service is the kind and the address of the service.
	Service string
	Err     error
}

// maxMessageShown bounds the message of a failed call, in bytes.
const maxMessageShown = 300

// Error returns the service, the code and the message, for people.
func (e *CallError) Error() string {
	s := status.Convert(e.Err)
	return fmt.Sprintf("%s: %s: %s", e.Service, s.Code(), text.Clean(s.Message(), maxMessageShown))
}

// Unwrap returns the error of the call.
func (e *CallError) Unwrap() error { return e.Err }

// valid returns the answer only if there is no error.
func valid[T any](answer *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// Reporter is implemented by the ShadowServiceClient of an executor that pushes its reports. Such a report is older than the
// call that reads it.
type Reporter interface {
	// Reported returns the newest report and when it was received.
	Reported(ctx context.Context) (*executorv1.GetShadowReportResponse, time.Time, error)
}

// report is like [Executor.Report], but also returns an answer that contradicts itself. The answer is not older than the time
// at.
func (e Executor) report(ctx context.Context) (r *executorv1.GetShadowReportResponse, at time.Time, err error) {
	if reporter, ok := e.Shadows.(Reporter); ok {
		r, at, err = reporter.Reported(ctx)
	} else {
		at = time.Now()
		r, err = e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	}
	if err != nil {
		return nil, at, &CallError{"executor " + e.Addr, err}
	}
	if err := CheckReport(r, time.Now()); err != nil {
		return r, at, contradiction("executor "+e.Addr, err)
	}
	return r, at, nil
}

// Report reads the shadow report. The error is a [*CallError] or an [ErrContradicts].
func (e Executor) Report(ctx context.Context) (*executorv1.GetShadowReportResponse, error) {
	r, _, err := e.report(ctx)
	return valid(r, err)
}

// Counters reads the counters. The errors are those of [Executor.Report].
func (e Executor) Counters(ctx context.Context) (Counters, error) {
	r, at, err := e.report(ctx)
	if err != nil {
		return Counters{}, err
	}
	return CountersOf(e.Addr, r, at), nil
}

// settleTime bounds [Executor.Settle], settlePoll is the time between two of its reads.
const settleTime, settlePoll = 10 * time.Second, 20 * time.Millisecond

// Settle reads the counters until no shadow is in flight. It returns an error after 10 s.
func (e Executor) Settle(ctx context.Context) (Counters, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	poll := time.NewTicker(settlePoll)
	defer poll.Stop()
	for {
		c, err := e.Counters(ctx)
		if err != nil || c.InFlight == 0 {
			return c, err
		}
		select {
		case <-ctx.Done():
			return c, fmt.Errorf("executor %s: %d shadows are still in flight: %w", e.Addr, c.InFlight, ctx.Err())
		case <-poll.C:
		}
	}
}

// ReadCounters reads the counters of all executors concurrently. It returns the counters of those that answered, and one error
// per executor in their order. If one process answers under two names, the error is an [ErrDuplicate].
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

// rollout is like [Executor.Rollout], but also returns an answer that contradicts itself.
func (e Executor) rollout(ctx context.Context) (*executorv1.GetRolloutResponse, error) {
	got, err := e.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
	if err != nil {
		return nil, &CallError{"executor " + e.Addr, err}
	}
	err = CheckRollout(got.GetInstanceId(), got.GetRollout())
	if err == nil {
		err = CheckGate(got.GetGate())
	}
	if err != nil {
		return got, contradiction("executor "+e.Addr+", GetRollout", err)
	}
	return got, nil
}

// Rollout reads the rollout in force. The error is a [*CallError] or an [ErrContradicts].
func (e Executor) Rollout(ctx context.Context) (*executorv1.GetRolloutResponse, error) {
	return valid(e.rollout(ctx))
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

// maxReason bounds a reason that is sent to an executor, in bytes.
const maxReason = 512

// AbortRollout sets 0 %, regardless of leases. No reason keeps it from being sent: one that is too long is cut, and bytes that
// are not UTF-8 are replaced. The error is a [*CallError].
func (e Executor) AbortRollout(ctx context.Context, reason string) error {
	if _, err := e.Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{Reason: text.Cut(reason, maxReason)}); err != nil {
		return &CallError{"executor " + e.Addr, err}
	}
	return nil
}

// ErrNotReadBack means that a service has confirmed a change, but its result could not be read.
var ErrNotReadBack = errors.New("not read back")

// Stop is [Executor.AbortRollout], and also returns the rollout that is then in force. It reads the rollout even after an
// error, because an abort is in force even if the executor could not write it to disk. If the rollout could not be read it is
// nil, and the error is an [ErrNotReadBack] unless there was another one.
func (e Executor) Stop(ctx context.Context, reason string) (*executorv1.Rollout, error) {
	aborted := e.AbortRollout(ctx, reason)
	got, err := e.Rollout(ctx)
	if aborted == nil && err != nil {
		aborted = fmt.Errorf("%w: %w", ErrNotReadBack, err)
	}
	return got.GetRollout(), aborted
}

// ModelServerError means that the address belongs to a model server instead of an ml-engine.
type ModelServerError struct {
	Addr string
	// Server is the server's name and version.
	Server string
}

// Error implements error.
func (e *ModelServerError) Error() string {
	return fmt.Sprintf("%s is not an ml-engine but a model server for the Open Inference Protocol (%s): for its models, %s", e.Addr, e.Server, oip.Unpromotable)
}

// modelServer returns the error if a model server refused the call; nil if another program did.
func (e Engine) modelServer(ctx context.Context, err error) *ModelServerError {
	if status.Code(err) != codes.Unimplemented || e.Inference == nil {
		return nil
	}
	meta, err := e.Inference.ServerMetadata(ctx, &inference.ServerMetadataRequest{})
	if err != nil {
		return nil //nolint:nilerr // the metadata call failed too: not a model server
	}
	return &ModelServerError{e.Addr, text.Clean(strings.TrimSpace(meta.GetName()+" "+meta.GetVersion()), maxShown)}
}

// info is like [Engine.Info], but also returns an answer that contradicts itself.
func (e Engine) info(ctx context.Context) (*mlenginev1.GetModelInfoResponse, error) {
	info, err := e.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
	if err != nil {
		if server := e.modelServer(ctx, err); server != nil {
			return nil, server
		}
		return nil, &CallError{"ml-engine " + e.Addr, err}
	}
	if err := CheckModel(info); err != nil {
		return info, contradiction("ml-engine "+e.Addr+", GetModelInfo", err)
	}
	return info, nil
}

// Info reads the model that is served. The error is a [*CallError], a [*ModelServerError] or an [ErrContradicts].
func (e Engine) Info(ctx context.Context) (*mlenginev1.GetModelInfoResponse, error) {
	return valid(e.info(ctx))
}

// Model reads the model that is served. The errors are those of [Engine.Info].
func (e Engine) Model(ctx context.Context) (evidence.Model, error) {
	info, err := e.Info(ctx)
	return modelOf(info), err
}

func modelOf(info *mlenginev1.GetModelInfoResponse) evidence.Model {
	return evidence.Model{Version: info.GetVersion(), Digest: info.GetDigest()}
}

// DriftCounts reads the counts of the last hours by bin. The request may ask for more. The call may fail, or the answer may
// contradict itself.
func (e Engine) DriftCounts(ctx context.Context, req *mlenginev1.GetDriftRequest, hours int) (*mlenginev1.GetDriftResponse, error) {
	req.Window, req.Bins = durationpb.New(time.Duration(hours)*time.Hour), true
	a, err := e.Drift.GetDrift(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := CheckDrift(a, hours); err != nil {
		return nil, fmt.Errorf("the answer contradicts itself: %w", err)
	}
	return a, nil
}
