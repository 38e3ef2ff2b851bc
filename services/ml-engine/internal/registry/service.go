// Package registry is ml-engine's ModelRegistryService. It lists the models and swaps the active one. With a state folder
// the active and the previous model survive a restart.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// Service swaps the model of a scoring service.
type Service struct {
	mlenginev1.UnimplementedModelRegistryServiceServer

	Options

	// loading is a semaphore: models are loaded one at a time. A rollback does not wait for it.
	loading chan struct{}

	mu       sync.Mutex // held during a swap; scoring does not take it, and it is never held during disk access
	previous *scoring.Loaded
	// rollbacks counts rollbacks, so that an activation that began before a rollback does not undo it.
	rollbacks int
}

// Options configures a service.
type Options struct {
	Models  *model.Registry
	Scoring *scoring.Service
	// Monitor counts the drift of scored rows.
	Monitor *monitor.Monitor
	// Memory saves swaps; nil saves none. Previous is the previous model from before the restart; nil if there is none.
	Memory   *Memory
	Previous *scoring.Loaded
	Logger   *slog.Logger
}

// New returns a service that swaps the models of opts.Scoring.
func New(opts Options) *Service {
	return &Service{Options: opts, previous: opts.Previous, loading: make(chan struct{}, 1)}
}

// maxProblem limits the error text of an unreadable model, in bytes.
const maxProblem = 300

// ListModels implements ModelRegistryService.
func (s *Service) ListModels(ctx context.Context, _ *mlenginev1.ListModelsRequest) (*mlenginev1.ListModelsResponse, error) {
	entries, err := s.Models.List()
	if err != nil {
		return nil, rpc.EngineError(codes.Internal, "REGISTRY_UNREADABLE", "%v", err)
	}
	resp := &mlenginev1.ListModelsResponse{}
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		m := &mlenginev1.RegisteredModel{Name: e.Name, Version: e.Version}
		manifest, err := s.Models.Manifest(e)
		if err != nil {
			m.Problem = text.Clean(err.Error(), maxProblem)
		} else {
			m.Digest, m.Schema = text.Clean(manifest.Digest, maxField), text.Clean(manifest.Schema, maxField)
		}
		resp.Models = append(resp.Models, m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	active := s.Scoring.Active()
	resp.Active = describe(&active)
	if s.previous != nil {
		resp.Previous = describe(s.previous)
	}
	return resp, nil
}

// maxField limits the fields of unverified manifests in a list, in bytes.
const maxField = 128

// ActivateModel implements ModelRegistryService.
func (s *Service) ActivateModel(ctx context.Context, req *mlenginev1.ActivateModelRequest) (*mlenginev1.ActivateModelResponse, error) {
	if req.GetModel() == "" {
		return nil, rpc.EngineError(codes.InvalidArgument, "MODEL_MISSING", "no model to activate: give name/version, or a version")
	}
	select {
	case s.loading <- struct{}{}:
		defer func() { <-s.loading }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	s.mu.Lock()
	rollbacks := s.rollbacks
	s.mu.Unlock()
	next, err := s.load(req)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // the caller has timed out and assumes that the activation failed
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	s.mu.Lock()
	if s.rollbacks != rollbacks {
		s.mu.Unlock()
		return nil, rpc.EngineError(codes.Aborted, "ROLLED_BACK", "RollbackModel was called while %s was being loaded: %s stays active", req.GetModel(), s.Scoring.Version())
	}
	resp := &mlenginev1.ActivateModelResponse{}
	before := s.Scoring.Active()
	if same(before, *next) {
		resp.Active, resp.Previous = describe(&before), describe(&before)
		s.mu.Unlock()
		return resp, nil
	}
	// Always later than the previous model's time: this order distinguishes activations from rollbacks.
	if next.At = time.Now(); !next.At.After(before.At) {
		next.At = before.At.Add(time.Millisecond)
	}
	s.swap(next, &before)
	s.mu.Unlock()
	resp.Active, resp.Previous, resp.Warning = describe(next), describe(&before), s.warning()
	return resp, nil
}

// load finds and verifies the model.
func (s *Service) load(req *mlenginev1.ActivateModelRequest) (*scoring.Loaded, error) {
	entry, err := s.Models.Find(req.GetModel())
	if err != nil {
		return nil, rpc.EngineError(codes.NotFound, "MODEL_NOT_FOUND", "%v", err)
	}
	// Load verifies digests, schema and golden scores. Computing those scores also warms up the model.
	a, err := s.Models.Load(entry.String())
	if err == nil && !strings.HasPrefix(a.Digest(), req.GetDigest()) {
		err = fmt.Errorf("model %s has the digest %.12s, but %.12s was expected", entry, a.Digest(), req.GetDigest())
	}
	if n := len(req.GetDigest()); err == nil && n > 0 && n < minDigest {
		err = fmt.Errorf("a digest prefix of %d digits is too short: give at least %d", n, minDigest)
	}
	var watch *monitor.Watch
	if err == nil {
		watch, err = s.Monitor.Watch(a)
	}
	if err != nil {
		s.Logger.Error("model is not activated", "model", entry.String(), "active", s.Scoring.Version(), "error", err)
		return nil, rpc.EngineError(codes.FailedPrecondition, "MODEL_INVALID", "%v; %s stays active", err, s.Scoring.Version())
	}
	return &scoring.Loaded{Artifact: a, Watch: watch}, nil
}

// minDigest is the shortest accepted prefix of a digest, in hexadecimal digits.
const minDigest = 12

// RollbackModel implements ModelRegistryService.
func (s *Service) RollbackModel(context.Context, *mlenginev1.RollbackModelRequest) (*mlenginev1.RollbackModelResponse, error) {
	s.mu.Lock()
	s.rollbacks++
	next := s.previous
	if next == nil {
		s.mu.Unlock()
		return nil, rpc.EngineError(codes.FailedPrecondition, "NO_PREVIOUS_MODEL", "no previous model: only %s has been active", s.Scoring.Version())
	}
	before := s.Scoring.Active()
	s.swap(next, &before)
	s.mu.Unlock()
	return &mlenginev1.RollbackModelResponse{Active: describe(next), Previous: describe(&before), Warning: s.warning()}, nil
}

// same reports whether a and b are the same model.
func same(a, b scoring.Loaded) bool {
	return a.Digest() == b.Digest() && a.Manifest.Version == b.Manifest.Version && a.Manifest.Name == b.Manifest.Name
}

// swap makes next active and before the previous model. The caller holds the lock.
func (s *Service) swap(next, before *scoring.Loaded) {
	s.Scoring.Activate(*next)
	s.Monitor.Activate(next.Watch)
	s.previous = before
	s.Logger.Info("model is active", "model", next.Manifest.Version, "digest", next.Digest(),
		"previous", before.Manifest.Version, "previous_digest", before.Digest())
	s.Memory.keep(next, before)
}

// warning writes the swap. It returns why a restart may serve another model than the swap's; empty if it will not.
func (s *Service) warning() string {
	warning := s.Memory.write()
	if warning != "" {
		s.Logger.Warn("the active model may not survive a restart", "reason", warning)
	}
	return warning
}

func describe(l *scoring.Loaded) *mlenginev1.ActiveModel {
	return &mlenginev1.ActiveModel{
		Name: l.Manifest.Name, Version: l.Manifest.Version, Digest: l.Digest(), Schema: l.Spec.Schema,
		LoadTime: timestamppb.New(l.At),
	}
}
