// Package app builds executor from its parts.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
	"github.com/greenlight-ml/greenlight/services/executor/internal/live"
	"github.com/greenlight-ml/greenlight/services/executor/internal/page"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rollout"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rowlog"
)

// Run serves until ctx ends. It starts even if ml-engine is absent.
//
// It is one straight function on purpose: read from top to bottom, it shows what exists and in which order it starts and
// stops.
func Run(ctx context.Context, opts *Options, logger *slog.Logger) error {
	if err := opts.validate(); err != nil {
		return lifecycle.Usage(err)
	}
	keys, err := model.ReadKeys(opts.RequireSignature)
	if err != nil {
		return fmt.Errorf("--require-signature: %w", err)
	}
	baseline, err := decision.LoadBaseline(opts.Baseline, opts.Models, keys)
	if err != nil {
		return err
	}
	secured, err := opts.TLS.Open(logger)
	if err != nil {
		return err
	}
	engineSecured, err := opts.EngineTLS.Open(enginePrefix, "ml-engine", logger)
	if err != nil {
		return err
	}
	build := telemetry.BuildOf()
	reg := telemetry.NewRegistry("executor")
	secured.RegisterMetrics(reg)
	engineSecured.RegisterMetrics(reg)

	var stack lifecycle.Stack
	secured.Keep(&stack)
	engineSecured.Keep(&stack)
	fail := func(err error) error { return errors.Join(err, stack.Close(ctx)) }
	grpcListener, err := stack.ListenGRPC(ctx, opts.GRPCAddr, opts.GRPCSocketMode, "--grpc-addr")
	if err != nil {
		return err
	}
	if err := opts.Control.Validate(grpcListener.Addr(), secured.Mutual()); err != nil {
		return fail(lifecycle.Usage(err))
	}
	httpListener, err := stack.Listen(ctx, opts.HTTPAddr, "--http-addr")
	if err != nil {
		return fail(err)
	}
	rpc.WarnExposed(logger, secured != nil, grpcListener.Addr(), httpListener.Addr())
	if err := ownState(&stack, opts.StateDir); err != nil {
		return fail(err)
	}
	rollouts, err := rollout.Open(rollout.Options{Percent: opts.SamplePercent, Salt: opts.SampleSalt, Dir: opts.StateDir, Logger: logger})
	if err != nil {
		return fail(fmt.Errorf("rollout: %w", err))
	}
	stack.OnStop("rollout", func(context.Context) error {
		rollouts.Stop()
		return nil
	})
	reg.MustRegister(rollouts)
	rows, err := openRows(&stack, opts, baseline, logger)
	if err != nil {
		return fail(err)
	}
	rows.RegisterMetrics(reg)
	book, keeper, err := openBook(&stack, opts, logger, reg)
	if err != nil {
		return fail(err)
	}
	book.RegisterMetrics(reg)
	conn, err := rpc.Dial(opts.EngineAddr, reg, shadow.DialOptions(engineSecured.Credentials(opts.EngineTLS.ServerName), opts.Shadow.MaxBatch)...)
	if err != nil {
		return fail(fmt.Errorf("--engine-addr: %w", err))
	}
	stack.OnStop("connection to ml-engine", func(context.Context) error { return conn.Close() })

	shadowOpts := opts.Shadow
	shadowOpts.Engine, shadowOpts.Logger, shadowOpts.Registerer = mlenginev1.NewScoringServiceClient(conn), logger, reg
	var server *rpc.Server // set before the first request
	shadowOpts.Busy = func() bool { return server.Busy() }
	if rows != nil {
		shadowOpts.OnSettled = rows.Settled
	}
	dispatcher, err := shadow.New(shadowOpts)
	if err != nil {
		return fail(lifecycle.Usage(err)) // it fails only for wrong options
	}
	stack.OnStop("shadows", dispatcher.Stop)

	decisions := decision.New(baseline, rollouts, dispatcher, book, decision.NewMetrics(reg))
	decisions.LimitEventTimes(opts.MaxQuoteAhead)
	reports := decision.NewReportService(baseline, dispatcher, rollouts)
	connections := rpc.NewConnections(opts.MaxConnections, logger, reg)
	grpcListener, httpListener = connections.Limit("grpc", grpcListener), connections.Limit("http", httpListener)
	limiter := rpc.NewLimiter(opts.MaxRequestRate)
	decisions.LimitMessages(limiter.Check)
	server = rpc.NewServer(rpc.ServerOptions{
		Logger: logger, Registerer: reg, Reflection: opts.Reflection, Credentials: secured.ServerCredentials(), Limiter: limiter,
		Throttled: executorv1.DecisionService_ServiceDesc.ServiceName, MaxMessage: rpc.SmallMessage,
		Control: rpc.NewControl(opts.Control, logger, executorv1.RolloutService_ServiceDesc.ServiceName, executorv1.FeedService_ServiceDesc.ServiceName),
	})
	executorv1.RegisterDecisionServiceServer(server, decisions)
	executorv1.RegisterShadowServiceServer(server, reports)
	executorv1.RegisterRolloutServiceServer(server, rollout.NewService(rollouts))
	executorv1.RegisterFeedServiceServer(server, live.NewService(book))
	server.Ready()

	admin := telemetry.NewAdmin(reg, func() (bool, string) {
		// Neither an absent ml-engine nor a full disk makes executor unready: the baseline still answers.
		troubles := slices.DeleteFunc([]string{rows.Trouble(), keeper.Trouble(), rollouts.Trouble(), book.Trouble()}, func(s string) bool { return s == "" })
		shadows := "no shadow: ml-engine cannot be reached at " + opts.EngineAddr
		if model, ok := dispatcher.Ready(); ok {
			shadows = "shadow " + model
		}
		return true, strings.Join(append([]string{fmt.Sprintf("baseline %s, %s", baseline.Version, shadows)}, troubles...), "; ")
	})
	admin.Handle("POST /predict-with-shadow", facade.Unary(decisions.PredictWithShadow, facade.Route[*executorv1.PredictWithShadowRequest]{
		Bodies: new(facade.Bodies), Prepare: func(r *executorv1.PredictWithShadowRequest) { facade.CanonicalNames(r.GetFeatures()) },
		// A quote changes the features of its symbol, and so the decisions of other clients.
		Changes: func(r *executorv1.PredictWithShadowRequest) bool { return r.GetQuote() != nil },
	}))
	admin.Handle("GET /shadow/metrics", facade.Unary(reports.GetShadowReport, facade.Route[*executorv1.GetShadowReportRequest]{}))
	host, _ := os.Hostname() // without a name the page shows the address
	status := page.New(page.Options{
		Host: host, ShadowTimeout: shadowOpts.Timeout,
		Report: reports.GetShadowReport, Rollout: rollouts.Report, Drift: mlenginev1.NewDriftServiceClient(conn).GetDrift,
		Metrics: reg, Logger: logger, Build: "executor " + build.String(),
	})
	status.Register(admin)
	if opts.Profiles {
		telemetry.AddProfiles(admin)
	}
	web := telemetry.NewHTTPServer(limiter.LimitHTTP(facade.Guard(admin, opts.HTTPAddr, opts.HTTPHosts)), logger)
	secured.SecureHTTP(web)

	// Parts stop in reverse order: first refuse and drain calls, then finish their shadows, then write features and rows.
	stack.OnStop("http", lifecycle.Half(web.Shutdown))
	stack.OnStop("status page", status.Stop)
	stack.OnStop("grpc", lifecycle.Half(server.Drain))
	stack.OnStop("streams", func(context.Context) error {
		decisions.EndStreams()
		return nil
	})
	stack.Serve("grpc", func() error { return server.Serve(grpcListener) })
	stack.Serve("http", func() error { return lifecycle.ServeHTTP(web, httpListener) })

	if err := lifecycle.WriteAddresses(opts.AddressFile, map[string]net.Addr{
		"grpc": grpcListener.Addr(), "http": httpListener.Addr(),
	}); err != nil {
		return fail(err)
	}
	logger.Info("executor serves", "version", build.Version, "commit", build.Commit, "baseline", baseline.Version, "digest", baseline.Digest, "engine", opts.EngineAddr,
		"sample_percent", rollouts.Percent(), "grpc", lifecycle.Target(grpcListener.Addr()), "http", httpListener.Addr().String())
	err = stack.Run(ctx, opts.ShutdownGrace, logger)
	report := dispatcher.Report()
	logger.Info("executor stopped", "requests", report.GetRequestsTotal(), "in_flight", report.GetInFlight())
	return err
}

// ownState locks the state folder, if there is one, so that its files have one writer.
func ownState(stack *lifecycle.Stack, dir string) error {
	if dir == "" {
		return nil
	}
	owner, err := durable.Own(dir)
	if errors.Is(err, durable.ErrOwned) {
		err = fmt.Errorf("%w: give each executor a separate folder", err)
	}
	if err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	stack.OnStop("state folder", func(context.Context) error { return owner.Close() })
	return nil
}

// openBook restores the features from the state folder, if there is one, and saves them there.
func openBook(stack *lifecycle.Stack, opts *Options, logger *slog.Logger, reg prometheus.Registerer) (*live.Book, *live.Keeper, error) {
	folder := live.Folder(opts.StateDir)
	features, err := folder.Load(feature.BuildersOptions{
		Live: feature.LiveOptions{KeepCrossed: opts.KeepCrossed, Latest: latest(opts.MaxQuoteAhead)}, MaxSymbols: opts.MaxSymbols,
	}, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("--state-dir: %w", err)
	}
	book := live.NewBook(features, logger)
	keeper := live.Keep(book, folder, logger)
	keeper.RegisterMetrics(reg)
	stack.OnStop("features", keeper.Stop)
	return book, keeper, nil
}

// latest returns the limit on the times of quotes; nil is no limit.
func latest(ahead time.Duration) func() int64 {
	if ahead == 0 {
		return nil
	}
	return func() int64 { return time.Now().Add(ahead).UnixMilli() }
}

// openRows starts the feature log; nil if it is off.
func openRows(stack *lifecycle.Stack, opts *Options, baseline *decision.Baseline, logger *slog.Logger) (*rowlog.Log, error) {
	if opts.FeatureLog == "" {
		return nil, nil //nolint:nilnil // nil is a log that is off
	}
	rows, err := rowlog.Open(
		rowlog.Options{Files: featurelog.Options{Dir: opts.FeatureLog, Interval: opts.FeatureLogInterval}, Logger: logger},
		rowlog.Baseline{Version: baseline.Version, Digest: baseline.Digest, Inputs: baseline.Inputs()},
	)
	if err != nil {
		return nil, fmt.Errorf("--feature-log: %w", err)
	}
	stack.OnStop("feature log", rows.Close)
	return rows, nil
}
