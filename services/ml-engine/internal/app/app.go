// Package app builds ml-engine from its parts.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/registry"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// Run serves until ctx ends. Everything is bound and verified before the first call is accepted.
//
// It is one straight function on purpose: read from top to bottom, it shows what exists and in which order it starts and
// stops.
func Run(ctx context.Context, opts *Options, logger *slog.Logger) error {
	if err := opts.validate(); err != nil {
		return lifecycle.Usage(err)
	}
	secured, err := opts.TLS.Open(logger)
	if err != nil {
		return err
	}
	keys, err := model.ReadKeys(opts.RequireSignature)
	if err != nil {
		return fmt.Errorf("--require-signature: %w", err)
	}
	models := model.OpenRegistry(opts.Models).Requiring(keys)

	build := telemetry.BuildOf()
	reg := telemetry.NewRegistry("ml-engine")
	secured.RegisterMetrics(reg)
	var stack lifecycle.Stack
	secured.Keep(&stack)
	watching, err := monitor.Open(monitor.Options{Dir: opts.StateDir, EventClock: opts.DriftClock == eventClock, MaxEventAhead: opts.MaxEventAhead, Logger: logger})
	if err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	stack.OnStop("drift monitor", watching.Stop)
	watching.RegisterMetrics(reg)
	memory := registry.OpenMemory(opts.StateDir, logger)
	stack.OnStop("active model", func(context.Context) error {
		memory.Stop()
		return nil
	})
	first, err := memory.Restore(models, watching, opts.Model)
	if err != nil {
		return errors.Join(err, stack.Close(ctx))
	}
	service := scoring.New(first.Active, scoring.NewMetrics(reg))
	watching.Activate(first.Active.Watch)

	grpcListener, err := stack.ListenGRPC(ctx, opts.GRPCAddr, opts.GRPCSocketMode, "--grpc-addr")
	if err != nil {
		return errors.Join(err, stack.Close(ctx))
	}
	httpListener, err := stack.Listen(ctx, opts.HTTPAddr, "--http-addr")
	if err != nil {
		return errors.Join(err, stack.Close(ctx))
	}

	if err := opts.Control.Validate(grpcListener.Addr(), secured.Mutual()); err != nil {
		return errors.Join(lifecycle.Usage(err), stack.Close(ctx))
	}
	rpc.WarnExposed(logger, secured != nil, grpcListener.Addr(), httpListener.Addr())
	connections := rpc.NewConnections(opts.MaxConnections, logger, reg)
	grpcListener, httpListener = connections.Limit("grpc", grpcListener), connections.Limit("http", httpListener)
	limiter := rpc.NewLimiter(opts.MaxRequestRate)
	server := rpc.NewServer(rpc.ServerOptions{
		Logger: logger, Registerer: reg, Reflection: opts.Reflection, OnRefused: service.Refused,
		Credentials: secured.ServerCredentials(), Limiter: limiter,
		Throttled: mlenginev1.ScoringService_ServiceDesc.ServiceName,
		Control:   rpc.NewControl(opts.Control, logger, mlenginev1.ModelRegistryService_ServiceDesc.ServiceName),
	})
	mlenginev1.RegisterScoringServiceServer(server, service)
	mlenginev1.RegisterModelRegistryServiceServer(server, registry.New(registry.Options{
		Models: models, Scoring: service, Monitor: watching, Memory: memory, Previous: first.Previous, Logger: logger,
	}))
	mlenginev1.RegisterDriftServiceServer(server, monitor.NewService(watching))
	server.Ready()

	admin := telemetry.NewAdmin(reg, func() (bool, string) {
		reason := "model " + service.Version()
		for _, trouble := range []string{memory.Trouble(), watching.Trouble()} {
			if trouble != "" {
				reason += "; " + trouble
			}
		}
		return true, reason
	})
	admin.Handle("GET /ml/metrics", telemetry.MetricsHandler(reg))
	admin.HandleFunc("GET /ml/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct {
			OK    bool   `json:"ok"`
			Model string `json:"model"`
		}{true, service.Version()})
	})
	admin.Handle("GET /ml/model/info", facade.Unary(service.GetModelInfo, facade.Route[*mlenginev1.GetModelInfoRequest]{}))
	admin.Handle("POST /ml/predict", facade.Unary(service.Predict, facade.Route[*mlenginev1.PredictRequest]{
		Bodies: new(facade.Bodies),
		Prepare: func(r *mlenginev1.PredictRequest) {
			facade.CanonicalNames(r.GetFeatures())
			facade.CanonicalNames(r.GetWatched())
		},
		Refused: func(code codes.Code) { service.Refused(mlenginev1.ScoringService_Predict_FullMethodName, code) },
	}))
	if opts.Profiles {
		telemetry.AddProfiles(admin)
	}
	web := telemetry.NewHTTPServer(limiter.LimitHTTP(facade.Guard(admin, opts.HTTPAddr, opts.HTTPHosts)), logger)
	secured.SecureHTTP(web)

	// Parts stop in reverse order: first drain calls, then close the pages.
	stack.OnStop("http", lifecycle.Half(web.Shutdown))
	stack.OnStop("grpc", lifecycle.Half(server.Drain))
	stack.OnStop("prediction streams", func(context.Context) error {
		service.EndStreams()
		return nil
	})
	stack.Serve("grpc", func() error { return server.Serve(grpcListener) })
	stack.Serve("http", func() error { return lifecycle.ServeHTTP(web, httpListener) })

	if err := lifecycle.WriteAddresses(opts.AddressFile, map[string]net.Addr{
		"grpc": grpcListener.Addr(), "http": httpListener.Addr(),
	}); err != nil {
		return errors.Join(err, stack.Close(ctx))
	}
	logger.Info("ml-engine serves", "version", build.Version, "commit", build.Commit, "model", first.Active.Manifest.Version, "digest", first.Active.Digest(),
		"schema", first.Active.Spec.Schema, "grpc", lifecycle.Target(grpcListener.Addr()), "http", httpListener.Addr().String())
	return stack.Run(ctx, opts.ShutdownGrace, logger)
}
