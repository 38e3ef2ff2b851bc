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

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/group/member"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/link"
	"github.com/greenlight-ml/greenlight/pkg/shadow/oipengine"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
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
	keys, err := dsse.ReadKeys(opts.RequireSignature)
	if err != nil {
		return fmt.Errorf("--require-signature: %w", err)
	}
	baseline, err := decision.LoadBaseline(opts.Baseline, opts.Models, keys)
	if err != nil {
		return err
	}
	shell, err := serve.New(ctx, &opts.Options, serve.Service{
		Name: "executor", Throttled: []string{executorv1.DecisionService_ServiceDesc.ServiceName}, MaxMessage: rpc.SmallMessage,
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
	served, err := serverSchema(opts, schemas)
	if err != nil {
		return err
	}
	p, err := open(shell, opts, baseline, schemas, served, logger)
	if err != nil {
		return err
	}
	p.serve(shell, opts, logger)
	if err := p.callHome(shell, opts, logger); err != nil {
		return err
	}
	shell.Go("kill signal", func(ctx context.Context) { p.killOn(ctx, opts.Kill) })
	if err := shell.Start(ctx); err != nil {
		return err
	}
	build := telemetry.BuildOf()
	grpcAddr, httpAddr := shell.Addr()
	logger.Info("executor serves", "version", build.Version, "commit", build.Commit, "baseline", baseline.Version, "digest", baseline.Digest, "engine", opts.EngineAddr, "challengers", len(opts.Challengers),
		"sample_percent", p.rollouts.Percent(), "grpc", grpcAddr, "http", httpAddr)
	err = shell.Wait(ctx)
	report := p.dispatcher.Report()
	logger.Info("executor stopped", "requests", report.GetRequestsTotal(), "in_flight", report.GetInFlight())
	return err
}

// parts are what executor consists of.
type parts struct {
	baseline   *decision.Baseline
	gate       *gate.Keeper
	rollouts   *rollout.Keeper
	rows       *rowlog.Log
	book       *live.Book
	keeper     *live.Keeper
	outcomes   *outcome.Keeper
	dispatcher *shadow.Dispatcher
	reports    *decision.ReportService
	// home is nil without a group.
	home *member.Member
	// drift is nil for a model server, which does not report drift.
	drift driftCall
}

// driftCall asks ml-engine for its drift.
type driftCall func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)

// open opens the parts. They stop in reverse order: first the shadows of the last decisions end, then features and rows are
// written. served is the schema of a model server's model; it is nil for ml-engine.
func open(shell *serve.App, opts *Options, baseline *decision.Baseline, schemas *feature.Known, served *feature.Schema, logger *slog.Logger) (*parts, error) {
	secured, err := opts.EngineTLS.Open(enginePrefix, "ml-engine", logger)
	if err != nil {
		return nil, err
	}
	shell.Keep(secured)
	if err := ownState(shell, opts.StateDir); err != nil {
		return nil, err
	}
	p := &parts{baseline: baseline}
	p.gate, err = gate.Open(gate.Options{Allowed: opts.AllowGated, Dir: opts.StateDir, Timeout: opts.Shadow.Timeout, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	shell.OnStop("gate", func(context.Context) error {
		p.gate.Stop()
		return nil
	})
	shell.Registry.MustRegister(p.gate)
	p.rollouts, err = rollout.Open(rollout.Options{Percent: opts.SamplePercent, Salt: opts.SampleSalt, Dir: opts.StateDir, Gate: p.gate, Group: opts.Fleet.Group, Logger: logger})
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
	if err := shadows.Validate(); err != nil {
		return nil, serve.Usage(err)
	}
	limits := link.Options{
		Timeout: shadows.Timeout, MaxInFlight: shadows.MaxInFlight, MaxBatch: shadows.MaxBatch, Logger: logger, Registerer: shell.Registry,
	}
	if shadows.Engine, p.drift, err = connect(shell, opts, opts.EngineAddr, secured, served, limits); err != nil {
		return nil, err
	}
	for _, c := range opts.Challengers {
		limits.Challenger, limits.MaxInFlight, limits.Logger = c.Name, 1, logger.With("challenger", c.Name)
		engine, _, err := connect(shell, opts, c.Engine, secured, served, limits)
		if err != nil {
			return nil, err
		}
		shadows.Challengers = append(shadows.Challengers, shadow.ChallengerOptions{Name: c.Name, Engine: engine, SameEngine: c.Engine == opts.EngineAddr})
	}
	scheduler := telemetry.NewScheduler()
	shell.Go("scheduler watch", scheduler.Watch)
	shadows.Busy = scheduler.Busy
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
	p.gate.Ask(p.dispatcher.Active)
	p.outcomes.Start(p.dispatcher.Model)
	shell.OnStop("shadows", p.dispatcher.Stop)
	return p, nil
}

// connect returns a client of the ml-engine or model server at the address, which shell closes when it stops, and a function that asks
// ml-engine for its drift. served is the schema of a model server's model.
func connect(shell *serve.App, opts *Options, addr string, secured *certs.Store, served *feature.Schema, limits link.Options) (mlenginev1.ScoringServiceClient, driftCall, error) {
	var target oipengine.Target
	var extra []grpc.DialOption
	at, server := addr, oipengine.IsTarget(addr)
	if server {
		var err error
		if target, err = oipengine.ParseTarget(addr); err != nil {
			return nil, nil, serve.Usage(err)
		}
		at, extra = target.Addr, oipengine.DialOptions()
	}
	engine, err := link.Connect(at, secured.Credentials(opts.EngineTLS.ServerName), limits, extra...)
	if err != nil {
		return nil, nil, serve.Usage(err) // it fails only for wrong options
	}
	shell.OnStop(strings.TrimSpace("connection to ml-engine "+limits.Challenger), func(context.Context) error { return engine.Close() })
	if server {
		return oipengine.New(engine, target, served, limits.Logger), nil, nil
	}
	return engine, mlenginev1.NewDriftServiceClient(engine).GetDrift, nil
}

// killOn kills the gate on every signal.
func (p *parts) killOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case s := <-signals:
			_ = p.gate.Kill(gate.BySignal, "", s.String()) // logged and retried
		case <-ctx.Done():
			return
		}
	}
}

// serve registers the services and the pages.
func (p *parts) serve(shell *serve.App, opts *Options, logger *slog.Logger) {
	decisions := decision.New(p.baseline, p.rollouts, p.gate, p.dispatcher, p.book, decision.NewMetrics(shell.Registry))
	decisions.LimitEventTimes(opts.MaxQuoteAhead)
	decisions.LimitMessages(shell.Limiter.Check)
	decisions.Trace(shell.Tracer)
	reports := decision.NewReportService(p.baseline, p.dispatcher, p.rollouts)
	p.reports = reports
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
		// A quote changes the features of its symbol, and therefore other clients' decisions.
		Changes: func(r *executorv1.PredictWithShadowRequest) bool { return r.GetQuote() != nil },
	}))
	shell.Pages.Handle("GET /shadow/metrics", facade.Unary(reports.GetShadowReport, facade.Route[*executorv1.GetShadowReportRequest]{}))
	host, _ := os.Hostname() // without a name the page shows the address
	status := page.New(page.Options{
		Host: host, ShadowTimeout: opts.Shadow.Timeout,
		Report: reports.GetShadowReport, Rollout: p.rollouts.Report, Gate: p.gate.Status, Drift: p.drift,
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

// state describes the parts for /readyz. Neither a missing ml-engine nor a full disk makes executor unready: the baseline
// still answers.
func (p *parts) state(engine string) string {
	shadows := "no shadow: ml-engine cannot be reached at " + engine
	if p.drift == nil {
		shadows = "no shadow: the model server cannot be asked at " + engine
	}
	if model, ok := p.dispatcher.Ready(); ok {
		shadows = "shadow " + model
	}
	for _, c := range p.dispatcher.Challengers() {
		if c.Reachable {
			shadows += fmt.Sprintf(", challenger %s %s", c.Name, c.Model)
		} else {
			shadows += fmt.Sprintf(", challenger %s cannot be reached", c.Name)
		}
	}
	troubles := slices.DeleteFunc([]string{p.rows.Trouble(), p.keeper.Trouble(), p.rollouts.Trouble(), p.home.Trouble(), p.gate.Trouble(), p.book.Trouble(), p.outcomes.Trouble()}, func(s string) bool { return s == "" })
	return strings.Join(append([]string{fmt.Sprintf("baseline %s, %s", p.baseline.Version, shadows)}, troubles...), "; ")
}

// knownSchemas returns the schemas known from the start.
func knownSchemas(files []string, baseline *decision.Baseline) (*feature.Known, error) {
	known := feature.NewKnown()
	for _, path := range files {
		if _, err := readSchema(path, known); err != nil {
			return nil, fmt.Errorf("--schema %s: %w", path, err)
		}
	}
	return known, baseline.Learn(known)
}

// serverSchema returns the schema of a model server's model; nil for ml-engine.
func serverSchema(opts *Options, known *feature.Known) (*feature.Schema, error) {
	if opts.EngineSchema == "" {
		return nil, nil //nolint:nilnil // ml-engine sends it
	}
	if s, ok := feature.Lookup(opts.EngineSchema); ok {
		return s, nil
	}
	s, err := readSchema(opts.EngineSchema, known)
	if err != nil {
		return nil, fmt.Errorf("--engine-schema %s: %w", opts.EngineSchema, err)
	}
	return s, nil
}

// readSchema adds the schema of a document to the known ones.
func readSchema(path string, known *feature.Known) (*feature.Schema, error) {
	raw, err := durable.ReadFile(path, feature.MaxDocument)
	if err != nil {
		return nil, err
	}
	s, err := feature.ParseSchema(raw)
	if err != nil {
		return nil, err
	}
	return known.Add(s)
}

// ownState locks the state folder, if there is one, so that only one process writes its files.
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

// latest returns the limit on the times of quotes; nil means no limit.
func latest(ahead time.Duration) func() int64 {
	if ahead == 0 {
		return nil
	}
	return func() int64 { return time.Now().Add(ahead).UnixMilli() }
}

// openRows starts the feature log; nil if it is off.
func openRows(shell *serve.App, opts *Options, baseline *decision.Baseline, schemas *feature.Known, logger *slog.Logger) (*rowlog.Log, error) {
	if opts.FeatureLog == "" {
		return nil, nil //nolint:nilnil // a nil log is off
	}
	rows, err := rowlog.Open(
		featurelog.Options{Dir: opts.FeatureLog, Interval: opts.FeatureLogInterval, Logger: logger},
		rowlog.Baseline{Version: baseline.Version, Digest: baseline.Digest, Inputs: baseline.Inputs()},
		schemas,
	)
	if err != nil {
		return nil, fmt.Errorf("--feature-log: %w", err)
	}
	shell.OnStop("feature log", rows.Close)
	return rows, nil
}
