// Package registry is ml-engine's ModelRegistryService: it says which models there are, and swaps the one that scores.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// Service swaps the model of a scoring service.
type Service struct {
	mlenginev1.UnimplementedModelRegistryServiceServer

	registry *model.Registry
	scoring  *scoring.Service
	monitor  *monitor.Monitor
	logger   *slog.Logger

	mu       sync.Mutex // one swap at a time; scoring does not wait for it
	previous *scoring.Loaded
}

// New returns a service for the models of the registry. What they score is counted by the monitor.
func New(r *model.Registry, s *scoring.Service, m *monitor.Monitor, logger *slog.Logger) *Service {
	return &Service{registry: r, scoring: s, monitor: m, logger: logger}
}

// ListModels implements ModelRegistryService.
func (s *Service) ListModels(context.Context, *mlenginev1.ListModelsRequest) (*mlenginev1.ListModelsResponse, error) {
	entries, err := s.registry.List()
	if err != nil {
		return nil, fail(codes.Internal, "REGISTRY_UNREADABLE", "%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &mlenginev1.ListModelsResponse{Active: describe(s.scoring.Active())}
	if s.previous != nil {
		resp.Previous = describe(*s.previous)
	}
	for _, e := range entries {
		m := &mlenginev1.RegisteredModel{Name: e.Name, Version: e.Version}
		manifest, err := s.registry.Manifest(e)
		if err != nil {
			m.Problem = err.Error()
		} else {
			m.Digest, m.Schema = manifest.Digest, manifest.Schema
		}
		resp.Models = append(resp.Models, m)
	}
	return resp, nil
}

// ActivateModel implements ModelRegistryService.
func (s *Service) ActivateModel(_ context.Context, req *mlenginev1.ActivateModelRequest) (*mlenginev1.ActivateModelResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.GetModel() == "" {
		return nil, fail(codes.InvalidArgument, "MODEL_MISSING", "name the model to activate: name/version, or a version")
	}
	entry, err := s.registry.Find(req.GetModel())
	if err != nil {
		return nil, fail(codes.NotFound, "MODEL_NOT_FOUND", "%v", err)
	}
	// Load verifies digests, schema and golden scores; scoring those is also what warms the model up.
	a, err := s.registry.Load(entry.String())
	if err == nil && !strings.HasPrefix(a.Digest(), req.GetDigest()) {
		err = fmt.Errorf("model %s has the digest %.12s, and %.12s was expected", entry, a.Digest(), req.GetDigest())
	}
	if n := len(req.GetDigest()); err == nil && n > 0 && n < minDigest {
		err = fmt.Errorf("a digest of %d digits says too little: give at least %d", n, minDigest)
	}
	var watch *monitor.Watch
	if err == nil {
		watch, err = s.monitor.Watch(a)
	}
	if err != nil {
		s.logger.Error("model is not activated", "model", entry.String(), "active", s.scoring.Version(), "error", err)
		return nil, fail(codes.FailedPrecondition, "MODEL_INVALID", "%v; %s stays active", err, s.scoring.Version())
	}
	active, previous := s.swap(scoring.Loaded{Artifact: a, Watch: watch, At: time.Now()})
	return &mlenginev1.ActivateModelResponse{Active: active, Previous: previous}, nil
}

// minDigest is how many digits name a digest.
const minDigest = 12

// RollbackModel implements ModelRegistryService.
func (s *Service) RollbackModel(context.Context, *mlenginev1.RollbackModelRequest) (*mlenginev1.RollbackModelResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.previous == nil {
		return nil, fail(codes.FailedPrecondition, "NO_PREVIOUS_MODEL", "%s has been active since start: there is nothing to return to", s.scoring.Version())
	}
	active, previous := s.swap(*s.previous)
	return &mlenginev1.RollbackModelResponse{Active: active, Previous: previous}, nil
}

// swap makes the model active and remembers the one before. Activating the active model again changes nothing.
func (s *Service) swap(next scoring.Loaded) (active, previous *mlenginev1.ActiveModel) {
	before := s.scoring.Active()
	if before.Digest() == next.Digest() && before.Manifest.Version == next.Manifest.Version && before.Manifest.Name == next.Manifest.Name {
		return describe(before), describe(before)
	}
	before = s.scoring.Activate(next)
	s.monitor.Activate(next.Watch)
	s.previous = &before
	s.logger.Info("model is active", "model", next.Manifest.Version, "digest", next.Digest(),
		"previous", before.Manifest.Version, "previous_digest", before.Digest())
	return describe(next), describe(before)
}

func describe(l scoring.Loaded) *mlenginev1.ActiveModel {
	return &mlenginev1.ActiveModel{
		Name: l.Manifest.Name, Version: l.Manifest.Version, Digest: l.Digest(), Schema: l.Spec.Schema,
		LoadTime: timestamppb.New(l.At),
	}
}

func fail(code codes.Code, reason, format string, args ...any) error {
	return &rpc.Error{Code: code, Domain: "mlengine.greenlight", Reason: reason, Message: fmt.Errorf(format, args...).Error()}
}
