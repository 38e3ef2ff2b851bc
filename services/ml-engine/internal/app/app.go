// Package app builds ml-engine from its parts.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/mirror"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/registry"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// Run serves until ctx ends. Everything is bound and verified before the first call is accepted.
func Run(ctx context.Context, opts *Options, logger *slog.Logger) (err error) {
	if err := opts.validate(); err != nil {
		return serve.Usage(err)
	}
	keys, err := dsse.ReadKeys(opts.RequireSignature)
	if err != nil {
		return fmt.Errorf("--require-signature: %w", err)
	}
	folder := opts.Models
	if oci.Is(folder) {
		folder = opts.Cache
	}
	models := model.OpenRegistry(folder).Requiring(keys)
	var service *scoring.Service // set before the first call
	shell, err := serve.New(ctx, &opts.Options, serve.Service{
		Name: "ml-engine", Throttled: []string{mlenginev1.ScoringService_ServiceDesc.ServiceName, inference.GRPCInferenceService_ServiceDesc.ServiceName},
		Control:   []string{mlenginev1.ModelRegistryService_ServiceDesc.ServiceName},
		OnRefused: func(method string, code codes.Code) { service.Refused(method, code) },
	}, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shell.Stop(ctx)) }() // does nothing after Wait
	watching, err := monitor.Open(monitor.Options{Dir: opts.StateDir, EventClock: opts.DriftClock == eventClock, MaxEventAhead: opts.MaxEventAhead, Logger: logger})
	if err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	shell.OnStop("drift monitor", watching.Stop)
	watching.RegisterMetrics(shell.Registry)
	memory := registry.OpenMemory(opts.StateDir, logger)
	shell.OnStop("active model", func(ctx context.Context) error {
		memory.Stop(ctx)
		return nil
	})
	copies, err := mirrored(opts, models, shell, logger)
	if err != nil {
		return err
	}
	shell.Registry.MustRegister(copies)
	first, err := memory.Restore(models, watching, opts.Model, func(ref string) error { return copies.First(ctx, ref) })
	if ctx.Err() != nil {
		return nil // asked to stop while it waited for the registry
	}
	if err != nil {
		return err
	}
	copies.Start(ctx)
	service = scoring.New(first.Active, scoring.NewMetrics(shell.Registry))
	service.Trace(shell.Tracer)
	watching.Activate(first.Active.Watch)

	mlenginev1.RegisterScoringServiceServer(shell.Server, service)
	scoring.RegisterInference(shell.Server, service, models)
	mlenginev1.RegisterModelRegistryServiceServer(shell.Server, registry.New(registry.Options{
		Models: models, Scoring: service, Monitor: watching, Memory: memory, Previous: first.Previous, Logger: logger,
	}))
	mlenginev1.RegisterDriftServiceServer(shell.Server, monitor.NewService(watching))
	shell.OnDrain("prediction streams", func(context.Context) error {
		service.EndStreams()
		return nil
	})
	shell.State = func() string {
		troubles := slices.DeleteFunc([]string{memory.Trouble(), watching.Trouble(), copies.Trouble()}, func(s string) bool { return s == "" })
		return strings.Join(append([]string{"model " + service.Version()}, troubles...), "; ")
	}
	addPages(shell, service)
	if err := shell.Start(ctx); err != nil {
		return err
	}
	build := telemetry.BuildOf()
	grpcAddr, httpAddr := shell.Addr()
	logger.Info("ml-engine serves", "version", build.Version, "commit", build.Commit, "model", first.Active.Manifest.Version, "digest", first.Active.Digest(),
		"schema", first.Active.Spec.Schema, "grpc", grpcAddr, "http", httpAddr)
	return shell.Wait(ctx)
}

// mirrored returns the mirror that copies an OCI repository's models into the registry; nil without a repository.
func mirrored(opts *Options, models *model.Registry, shell *serve.App, logger *slog.Logger) (*mirror.Mirror, error) {
	if !oci.Is(opts.Models) {
		return nil, nil //nolint:nilnil // nothing to copy
	}
	ref, err := oci.Parse(opts.Models)
	if err != nil {
		return nil, err
	}
	repository, err := oci.Open(ref, oci.Options{PlainHTTP: opts.PlainHTTP})
	if err != nil {
		return nil, err
	}
	m := mirror.New(mirror.Options{Name: ref.String(), Source: repository, Cache: models, Period: opts.ModelsPeriod, Logger: logger})
	shell.OnStop("models of "+ref.String(), func(ctx context.Context) error {
		defer repository.Close()
		return m.Stop(ctx)
	})
	return m, nil
}

// addPages adds the pages under /ml/.
func addPages(shell *serve.App, service *scoring.Service) {
	shell.Pages.Handle("GET /ml/metrics", telemetry.MetricsHandler(shell.Registry))
	shell.Pages.HandleFunc("GET /ml/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct {
			OK    bool   `json:"ok"`
			Model string `json:"model"`
		}{true, service.Version()})
	})
	shell.Pages.Handle("GET /ml/model/info", facade.Unary(service.GetModelInfo, facade.Route[*mlenginev1.GetModelInfoRequest]{}))
	shell.Pages.Handle("POST /ml/predict", facade.Unary(service.Predict, facade.Route[*mlenginev1.PredictRequest]{
		Bodies: new(facade.Bodies),
		Prepare: func(r *mlenginev1.PredictRequest) {
			facade.CanonicalNames(r.GetFeatures())
			facade.CanonicalNames(r.GetWatched())
		},
		Refused: func(code codes.Code) { service.Refused(mlenginev1.ScoringService_Predict_FullMethodName, code) },
	}))
}
