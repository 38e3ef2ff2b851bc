// Package app builds executor from its parts.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
	"github.com/greenlight-ml/greenlight/services/executor/internal/live"
	"github.com/greenlight-ml/greenlight/services/executor/internal/outcome"
	"github.com/greenlight-ml/greenlight/services/executor/internal/page"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rollout"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rowlog"
)

// Run serves until ctx ends. It starts even if ml-engine is absent.
func Run(ctx context.Context, opts *Options, logger *slog.Logger) (err error) {
	if err := opts.validate(); err != nil {
		return serve.Usage(err)
	}
	keys, err := model.ReadKeys(opts.RequireSignature)
	if err != nil {
		return fmt.Errorf("--require-signature: %w", err)
	}
	baseline, err := decision.LoadBaseline(opts.Baseline, opts.Models, keys)
	if err != nil {
		return err
	}
	shell, err := serve.New(ctx, &opts.Options, serve.Service{
		Name: "executor", Throttled: executorv1.DecisionService_ServiceDesc.ServiceName, MaxMessage: rpc.SmallMessage,
		Control: []string{executorv1.RolloutService_ServiceDesc.ServiceName, executorv1.FeedService_ServiceDesc.ServiceName, executorv1.OutcomeService_ServiceDesc.ServiceName},
	}, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shell.Stop(ctx)) }() // does nothing after Wait
	schemas, err := knownSchemas(opts.Schemas, baseline)
	if err != nil {
		return err
	}
	p, err := open(shell, opts, baseline, schemas, logger)
	if err != nil {
		return err
	}
	p.serve(shell, opts, logger)
	if err := shell.Start(ctx); err != nil {
		return err
	}
	build := telemetry.BuildOf()
	grpcAddr, httpAddr := shell.Addr()
	logger.Info("executor serves", "version", build.Version, "commit", build.Commit, "baseline", baseline.Version, "digest", baseline.Digest, "engine", opts.EngineAddr,
		"sample_percent", p.rollouts.Percent(), "grpc", grpcAddr, "http", httpAddr)
	err = shell.Wait(ctx)
	report := p.dispatcher.Report()
	logger.Info("executor stopped", "requests", report.GetRequestsTotal(), "in_flight", report.GetInFlight())
	return err
}

// parts are what executor consists of.
type parts struct {
	baseline   *decision.Baseline
	rollouts   *rollout.Keeper
	rows       *rowlog.Log
	book       *live.Book
	keeper     *live.Keeper
	outcomes   *outcome.Keeper
	engine     *shadow.Engine
	dispatcher *shadow.Dispatcher
}

// open opens the parts. They stop in reverse order: first the shadows of the last decisions end, then features and rows are
// written.
func open(shell *serve.App, opts *Options, baseline *decision.Baseline, schemas *feature.Known, logger *slog.Logger) (*parts, error) {
	secured, err := opts.EngineTLS.Open(enginePrefix, "ml-engine", logger)
	if err != nil {
		return nil, err
	}
	shell.Keep(secured)
	if err := ownState(shell, opts.StateDir); err != nil {
		return nil, err
	}
	p := &parts{baseline: baseline}
	p.rollouts, err = rollout.Open(rollout.Options{Percent: opts.SamplePercent, Salt: opts.SampleSalt, Dir: opts.StateDir, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	shell.OnStop("rollout", func(context.Context) error {
		p.rollouts.Stop()
		return nil
	})
	shell.Registry.MustRegister(p.rollouts)
	if p.rows, err = openRows(shell, opts, baseline, schemas, logger); err != nil {
		return nil, err
	}
	p.rows.RegisterMetrics(shell.Registry)
	p.outcomes, err = outcome.Open(outcome.Options{
		Baseline: baseline.Digest, Instance: p.rollouts.Instance(), Plan: p.rollouts.Plan, Dir: opts.StateDir, Judge: opts.JudgeQuality,
		Ahead: opts.MaxQuoteAhead, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	shell.OnStop("outcomes", p.outcomes.Stop)
	shell.Registry.MustRegister(p.outcomes)
	if p.book, p.keeper, err = openBook(shell, opts, p.outcomes.Minute, logger); err != nil {
		return nil, err
	}
	shadows := opts.Shadow
	shadows.Logger, shadows.Registerer = logger, shell.Registry
	p.engine, err = shadow.Connect(opts.EngineAddr, secured.Credentials(opts.EngineTLS.ServerName), shadows)
	if err != nil {
		return nil, serve.Usage(err) // it fails only for wrong options
	}
	shell.OnStop("connection to ml-engine", func(context.Context) error { return p.engine.Close() })
	shadows.Engine, shadows.Busy = p.engine, watchScheduler(shell).Busy
	shadows.Schemas = schemas
	shadows.OnSettled = p.outcomes.Settled
	if p.rows != nil {
		shadows.OnSettled = func(req shadow.Request, r shadow.Result) {
			p.outcomes.Settled(req, r)
			p.rows.Settled(req, r)
		}
	}
	if p.dispatcher, err = shadow.New(shadows); err != nil {
		return nil, serve.Usage(err) // it fails only for wrong options
	}
	p.outcomes.Start(p.dispatcher.Model)
	shell.OnStop("shadows", p.dispatcher.Stop)
	return p, nil
}

// watchScheduler watches the scheduler until shell stops.
func watchScheduler(shell *serve.App) *telemetry.Scheduler {
	s := telemetry.NewScheduler()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx)
	}()
	shell.OnStop("scheduler watch", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return s
}

// serve registers the services and the pages.
func (p *parts) serve(shell *serve.App, opts *Options, logger *slog.Logger) {
	decisions := decision.New(p.baseline, p.rollouts, p.dispatcher, p.book, decision.NewMetrics(shell.Registry))
	decisions.LimitEventTimes(opts.MaxQuoteAhead)
	decisions.LimitMessages(shell.Limiter.Check)
	reports := decision.NewReportService(p.baseline, p.dispatcher, p.rollouts)
	reports.SetOperators(shell.Server.AsOperator)
	reports.SetQuality(p.outcomes.Report)
	executorv1.RegisterDecisionServiceServer(shell.Server, decisions)
	executorv1.RegisterShadowServiceServer(shell.Server, reports)
	executorv1.RegisterRolloutServiceServer(shell.Server, rollout.NewService(p.rollouts))
	executorv1.RegisterFeedServiceServer(shell.Server, live.NewService(p.book))
	executorv1.RegisterOutcomeServiceServer(shell.Server, outcome.NewService(p.outcomes))
	shell.OnDrain("streams", func(context.Context) error {
		decisions.EndStreams()
		reports.EndStreams()
		p.outcomes.EndStreams()
		return nil
	})

	shell.State = func() string { return p.state(opts.EngineAddr) }
	shell.Pages.Handle("POST /predict-with-shadow", facade.Unary(decisions.PredictWithShadow, facade.Route[*executorv1.PredictWithShadowRequest]{
		Bodies: new(facade.Bodies), Prepare: func(r *executorv1.PredictWithShadowRequest) { facade.CanonicalNames(r.GetFeatures()) },
		// A quote changes the features of its symbol, and so the decisions of other clients.
		Changes: func(r *executorv1.PredictWithShadowRequest) bool { return r.GetQuote() != nil },
	}))
	shell.Pages.Handle("GET /shadow/metrics", facade.Unary(reports.GetShadowReport, facade.Route[*executorv1.GetShadowReportRequest]{}))
	host, _ := os.Hostname() // without a name the page shows the address
	status := page.New(page.Options{
		Host: host, ShadowTimeout: opts.Shadow.Timeout,
		Report: reports.GetShadowReport, Rollout: p.rollouts.Report, Drift: mlenginev1.NewDriftServiceClient(p.engine).GetDrift,
		Quality: func() (v *executorv1.QualityJudgment, bounds []page.Bound) {
			v = p.outcomes.Bounds(page.MaxBounds, func(at time.Time, lower, upper float64) {
				bounds = append(bounds, page.Bound{Time: at, Lower: lower, Upper: upper})
			})
			return v, bounds
		},
		Metrics: shell.Registry, Logger: logger, Build: "executor " + telemetry.BuildOf().String(),
	})
	status.Register(shell.Pages)
	shell.OnDrain("status page", status.Stop)
}

// state describes the parts for /readyz. Neither an absent ml-engine nor a full disk makes executor unready: the baseline
// still answers.
func (p *parts) state(engine string) string {
	shadows := "no shadow: ml-engine cannot be reached at " + engine
	if model, ok := p.dispatcher.Ready(); ok {
		shadows = "shadow " + model
	}
	troubles := slices.DeleteFunc([]string{p.rows.Trouble(), p.keeper.Trouble(), p.rollouts.Trouble(), p.book.Trouble(), p.outcomes.Trouble()}, func(s string) bool { return s == "" })
	return strings.Join(append([]string{fmt.Sprintf("baseline %s, %s", p.baseline.Version, shadows)}, troubles...), "; ")
}

// knownSchemas returns the schemas that are known from the start.
func knownSchemas(files []string, baseline *decision.Baseline) (*feature.Known, error) {
	known := feature.NewKnown()
	for _, path := range files {
		raw, err := durable.ReadFile(path, feature.MaxDocument)
		if err == nil {
			var s *feature.Schema
			if s, err = feature.ParseSchema(raw); err == nil {
				_, err = known.Add(s)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--schema %s: %w", path, err)
		}
	}
	return known, baseline.Learn(known)
}

// ownState locks the state folder, if there is one, so that its files have one writer.
func ownState(shell *serve.App, dir string) error {
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
	shell.OnStop("state folder", func(context.Context) error { return owner.Close() })
	return nil
}

// openBook restores the features from the state folder, if there is one, and saves them there.
func openBook(shell *serve.App, opts *Options, onMinute func(string, feature.Minute), logger *slog.Logger) (*live.Book, *live.Keeper, error) {
	folder := live.Folder(opts.StateDir)
	features, err := folder.Load(feature.BuildersOptions{
		Live: feature.LiveOptions{KeepCrossed: opts.KeepCrossed, Latest: latest(opts.MaxQuoteAhead)}, MaxSymbols: opts.MaxSymbols,
		OnMinute: onMinute,
	}, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("--state-dir: %w", err)
	}
	book := live.NewBook(features, logger)
	keeper := live.Keep(book, folder, logger)
	book.RegisterMetrics(shell.Registry)
	keeper.RegisterMetrics(shell.Registry)
	shell.OnStop("features", keeper.Stop)
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
func openRows(shell *serve.App, opts *Options, baseline *decision.Baseline, schemas *feature.Known, logger *slog.Logger) (*rowlog.Log, error) {
	if opts.FeatureLog == "" {
		return nil, nil //nolint:nilnil // nil is a log that is off
	}
	rows, err := rowlog.Open(
		rowlog.Options{Files: featurelog.Options{Dir: opts.FeatureLog, Interval: opts.FeatureLogInterval}, Logger: logger},
		rowlog.Baseline{Version: baseline.Version, Digest: baseline.Digest, Inputs: baseline.Inputs()},
		schemas,
	)
	if err != nil {
		return nil, fmt.Errorf("--feature-log: %w", err)
	}
	shell.OnStop("feature log", rows.Close)
	return rows, nil
}
