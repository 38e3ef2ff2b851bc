package rollback

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// engine is an in-memory ml-engine, whose RollbackModel swaps the two models like the real one.
type engine struct {
	mlenginev1.ScoringServiceClient
	mlenginev1.ModelRegistryServiceClient

	mu               sync.Mutex
	active, previous *mlenginev1.ActiveModel
	swaps            int

	listErr, rollbackErr, infoErr error
	// hangs means that it answers nothing.
	hangs bool
	// meddle, if set, is called after every swap.
	meddle func(*engine)
}

var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// loadedAt is a model that was loaded the given number of minutes after the epoch.
func loadedAt(version string, minutes int) *mlenginev1.ActiveModel {
	digest := hex.EncodeToString(slices.Repeat([]byte(version[1:]), 32))
	return &mlenginev1.ActiveModel{Version: version, Digest: digest, LoadTime: timestamppb.New(epoch.Add(time.Duration(minutes) * time.Minute))}
}

// newEngine has activated v2 after v1.
func newEngine() *engine { return &engine{active: loadedAt("v2", 1), previous: loadedAt("v1", 0)} }

func (e *engine) answer(ctx context.Context, err error) error {
	if e.hangs {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

func (e *engine) ListModels(ctx context.Context, _ *mlenginev1.ListModelsRequest, _ ...grpc.CallOption) (*mlenginev1.ListModelsResponse, error) {
	if err := e.answer(ctx, e.listErr); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &mlenginev1.ListModelsResponse{Active: e.active, Previous: e.previous}, nil
}

func (e *engine) RollbackModel(ctx context.Context, _ *mlenginev1.RollbackModelRequest, _ ...grpc.CallOption) (*mlenginev1.RollbackModelResponse, error) {
	if err := e.answer(ctx, e.rollbackErr); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active, e.previous = e.previous, e.active
	e.swaps++
	answer := &mlenginev1.RollbackModelResponse{Active: e.active, Previous: e.previous}
	if e.meddle != nil {
		e.meddle(e)
	}
	return answer, nil
}

func (e *engine) GetModelInfo(ctx context.Context, _ *mlenginev1.GetModelInfoRequest, _ ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	if err := e.answer(ctx, e.infoErr); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &mlenginev1.GetModelInfoResponse{Version: e.active.GetVersion(), Digest: e.active.GetDigest()}, nil
}

// executor is an in-memory executor.
type executor struct {
	executorv1.RolloutServiceClient

	percent          float64
	reason           string
	abortErr, getErr error
	hangs, deaf      bool
}

func (e *executor) AbortRollout(ctx context.Context, req *executorv1.AbortRolloutRequest, _ ...grpc.CallOption) (*executorv1.AbortRolloutResponse, error) {
	if e.hangs {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if _, err := proto.Marshal(req); err != nil { // as gRPC
		return nil, status.Error(codes.Internal, err.Error())
	}
	e.reason = req.GetReason()
	if !e.deaf {
		e.percent = 0
	}
	return &executorv1.AbortRolloutResponse{}, e.abortErr
}

func (e *executor) GetRollout(ctx context.Context, _ *executorv1.GetRolloutRequest, _ ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	if e.hangs {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	mode := executorv1.RolloutMode_ROLLOUT_MODE_OFF
	if e.percent > 0 {
		mode = executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	}
	return &executorv1.GetRolloutResponse{InstanceId: "x", Rollout: &executorv1.Rollout{Percent: e.percent, Mode: mode, Revision: 1}}, e.getErr
}

func pairOf(engines []*engine, executors []*executor) *fleet.Services {
	p := &fleet.Services{}
	for i, e := range engines {
		p.Engines = append(p.Engines, fleet.Engine{Addr: "engine-" + string(rune('a'+i)), Scoring: e, Models: e})
	}
	for i, e := range executors {
		p.Executors = append(p.Executors, fleet.Executor{Addr: "executor-" + string(rune('a'+i)), Rollouts: e})
	}
	return p
}

func TestRollback(t *testing.T) {
	t.Parallel()
	a, b, x := newEngine(), newEngine(), &executor{percent: 50}
	r := Run(t.Context(), pairOf([]*engine{a, b}, []*executor{x}), "it lies")
	if !r.Complete || r.Err() != nil || r.Reason != "it lies" {
		t.Errorf("%+v, %v", r, r.Err())
	}
	for _, e := range r.Engines {
		if !e.Done || e.From.Version != "v2" || e.To.Version != "v1" || e.Already || e.Error != "" {
			t.Errorf("%+v", e)
		}
	}
	if e := r.Executors[0]; !e.Done || *e.Percent != 0 || e.Mode != "OFF" || x.reason != "it lies" {
		t.Errorf("%+v, reason %q", e, x.reason)
	}
	// A second rollback leaves the model where it is: another swap would bring the bad one back.
	again := Run(t.Context(), pairOf([]*engine{a, b}, []*executor{x}), "nervous")
	if !again.Complete || a.swaps != 1 || a.active.GetVersion() != "v1" || !again.Engines[0].Already || again.Engines[0].From.Version != "v2" {
		t.Errorf("again: %d swaps, %s active, %+v", a.swaps, a.active.GetVersion(), again.Engines[0])
	}
	for _, one := range []*Result{r, again} { // both name the model before the rollback
		if !one.Of(a.previous.GetDigest()) || one.Of(a.active.GetDigest()) {
			t.Errorf("it is not of v2 alone: %+v", one.Engines)
		}
	}
}

// A service that hangs does not delay the others, and is named.
func TestHangingServices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, hung, x, deaf := newEngine(), newEngine(), &executor{percent: 5}, &executor{percent: 5, hangs: true}
		hung.hangs = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		r := Run(ctx, pairOf([]*engine{good, hung}, []*executor{x, deaf}), "")
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
		if !r.Engines[0].Done || r.Engines[0].TookMS != 0 || !r.Executors[0].Done || r.Executors[0].TookMS != 0 {
			t.Errorf("who answers was kept waiting: %+v, %+v", r.Engines[0], r.Executors[0])
		}
		if r.Complete || r.Engines[1].Done || r.Executors[1].Done {
			t.Errorf("who hangs is done: %+v, %+v", r.Engines[1], r.Executors[1])
		}
		text := r.Err().Error()
		for _, want := range []string{"not rolled back: ml-engine engine-b (DeadlineExceeded", "executor executor-b (DeadlineExceeded", "rolled back: ml-engine engine-a, executor executor-a"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q lacks %q", text, want)
			}
		}
	})
}

func TestEngines(t *testing.T) {
	t.Parallel()
	broken := status.Error(codes.Internal, "registry: disk on fire")
	for name, test := range map[string]struct {
		engine *engine
		done   bool
		active string
		reason string
	}{
		"never swapped":     {&engine{active: loadedAt("v1", 0)}, false, "v1", "there is no model to return to"},
		"list unreadable":   {func() *engine { e := newEngine(); e.listErr = broken; return e }(), true, "v1", ""},
		"refused":           {func() *engine { e := newEngine(); e.rollbackErr = broken; return e }(), false, "v2", "Internal: registry: disk on fire"},
		"not read back":     {func() *engine { e := newEngine(); e.infoErr = broken; return e }(), false, "v1", "not read back: Internal"},
		"rolled back twice": {&engine{active: loadedAt("v1", 0), previous: loadedAt("v2", 1), listErr: broken}, true, "v1", ""},
		"somebody swaps": {func() *engine {
			e := newEngine()
			e.listErr = broken
			e.meddle = func(e *engine) { e.active, e.previous = e.previous, e.active }
			return e
		}(), false, "v2", "it serves v2, not v1"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			r := Run(t.Context(), pairOf([]*engine{test.engine}, nil), "")
			if e := r.Engines[0]; e.Done != test.done || !strings.Contains(e.Error, test.reason) || test.engine.active.GetVersion() != test.active {
				t.Errorf("done %v, %s active: %q", e.Done, test.engine.active.GetVersion(), e.Error)
			}
			if r.Complete != test.done {
				t.Errorf("complete %v", r.Complete)
			}
		})
	}
}

func TestExecutors(t *testing.T) {
	t.Parallel()
	const maxReason = 512 // of an executor, in bytes
	broken := status.Error(codes.Internal, "disk full")
	for name, test := range map[string]struct {
		executor *executor
		done     bool
		reason   string
	}{
		"stops":         {&executor{percent: 100}, true, ""},
		"not written":   {&executor{percent: 100, abortErr: broken}, true, "disk full"},
		"does not obey": {&executor{percent: 100, deaf: true}, false, "it was stopped, but reports 100 %, OBSERVE_ONLY"},
		"not read back": {&executor{percent: 100, getErr: broken}, false, "not read back: Internal: disk full"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			r := Run(t.Context(), pairOf(nil, []*executor{test.executor}), strings.Repeat("ü", maxReason))
			if e := r.Executors[0]; e.Done != test.done || !strings.Contains(e.Error, test.reason) || (e.Error == "") != (test.reason == "") {
				t.Errorf("%+v", e)
			}
			if n := len(test.executor.reason); n > maxReason || n < maxReason-1 || strings.ContainsRune(test.executor.reason, '\uFFFD') {
				t.Errorf("a reason of %d bytes: %q", n, test.executor.reason)
			}
		})
	}
}

// A terminal in ISO 8859-9 sends "işlem" as bytes that are not UTF-8, which gRPC does not send.
func TestReasonOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	e := &executor{percent: 100}
	if r := Run(t.Context(), pairOf(nil, []*executor{e}), "i\xfelem durdu"); !r.Executors[0].Done || e.percent != 0 || e.reason != "i\uFFFDlem durdu" {
		t.Errorf("%+v, %g %%, reason %q", r.Executors[0], e.percent, e.reason)
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	if r := Run(t.Context(), &fleet.Services{}, ""); r.Complete || r.Err() == nil {
		t.Errorf("%+v: nothing was rolled back", r)
	}
}
