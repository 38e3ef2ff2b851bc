package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// runFlags configure the main job.
type runFlags struct {
	trainFlags

	evidence string
	work     flags.Work
	pair     process.Pair
	policy   flags.Policy
	// rehearsal is what the canary is judged by.
	rehearsal gate.Policy
}

func runCommand(c console.Console) *cobra.Command {
	var r runFlags
	cmd := &cobra.Command{
		Use: "run", Short: "The main job: from market data to a scorecard, with both services running",
		Long: `Run does everything: reads (or simulates) a market, trains and judges the models, starts ml-engine and
executor as processes, smoke-tests them, replays the held-out period through the executor with the model as its shadow,
measures the drift, rehearses a canary (observe-only, with phases of seconds), stops them, and prints the scorecard.
Evidence goes to the evidence folder; models and logs of the run to a new folder below --work.

Below the scorecard it says who was right: whether each trained model was better or worse than the baseline on what happened,
by its out-of-time scores, and how long a live run would have taken to know. Agreement with the baseline and quality are two
things. A promotion needs the quality of a live run.

It exits 3 when a target is missed: that is a result. It exits 1 when a stage could not run.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.rehearsal, err = r.policy.ReadShort(); err != nil { // before anything takes its time
				return err
			}
			var card gate.Scorecard
			var compared *quality.Compared
			err = withEvidence(c, r.evidence, func(store *evidence.Store) (err error) {
				card, compared, err = r.run(cmd.Context(), c, store)
				return err
			})
			if err != nil {
				return err
			}
			err = c.Verdict(card)
			c.Say("")
			return errors.Join(compared.Table().Text(c.Out), err)
		},
	}
	fs := cmd.Flags()
	r.Declare(fs)
	r.policy.Declare(fs)
	flags.ShadowTimeout(fs, &r.pair.ShadowTimeout)
	flags.Evidence(fs, &r.evidence)
	r.work.Declare(fs, "var/run")
	fs.StringVar(&r.pair.Engine.GRPC, "engine-grpc", "127.0.0.1:4010", "gRPC address for ml-engine")
	fs.StringVar(&r.pair.Engine.HTTP, "engine-http", "127.0.0.1:4011", "HTTP address for ml-engine")
	fs.StringVar(&r.pair.Executor.GRPC, "executor-grpc", "127.0.0.1:4020", "gRPC address for executor")
	fs.StringVar(&r.pair.Executor.HTTP, "executor-http", "127.0.0.1:4021", "HTTP address for executor")
	console.OutputsVerdict(c, cmd)
	return cmd
}

// run is the main job, stage by stage.
func (r *runFlags) run(ctx context.Context, c console.Console, store *evidence.Store) (none gate.Scorecard, compared *quality.Compared, err error) {
	start := time.Now()
	if r.pair.Dir, err = r.work.Folder(start); err != nil {
		return none, nil, err
	}
	r.models = filepath.Join(r.pair.Dir, "models")
	t, err := r.train(ctx, c, store)
	if err != nil {
		return none, nil, err
	}
	offline, err := judgeOffline(c, store, r.evidence)
	if err != nil {
		return none, nil, err
	}
	heldOut, err := traffic.States(t.Frame, t.Data.Symbol, t.HeldOut(), t.artifact, t.Data.Source())
	if err != nil {
		return none, nil, err
	}
	if len(heldOut) == 0 {
		return none, nil, fmt.Errorf("the held-out period of %s has no minute with all inputs", t.Data.Name)
	}
	var online []gate.Result
	trial := rehearsal.Trial{Data: t.Data, Artifact: t.artifact, Git: console.Revision()}
	r.pair.Policy = r.rehearsal
	services := process.Services{Programs: r.work.Programs, Models: r.models, Artifact: t.artifact}
	if err := rehearsal.WithPair(ctx, services, r.pair, func(pair *rehearsal.Pair) (err error) {
		online, err = r.stages(ctx, c, store, trial, pair, heldOut)
		return err
	}); err != nil {
		return none, nil, withStartHint(err)
	}
	card := gate.Scorecard{Results: slices.Concat(experiment.Headline(offline), online)}
	if err := store.WriteJSON("scorecard.json", t.Data.Header(experiment.ScorecardSchema, t.artifact, trial.Git), card); err != nil {
		return none, nil, err
	}
	if compared, err = quality.Compare(t.Study, t.candidate); err == nil {
		err = compared.Write(store, trial.Git)
	}
	if err != nil {
		return none, nil, err
	}
	c.Say("evidence  %s (%s)", r.evidence, t.Data.Source())
	c.Say("run       %s, %s", r.pair.Dir, time.Since(start).Round(100*time.Millisecond))
	c.Say("\n%s against %s on %s", t.candidate.Version, t.artifact.Baseline.Version, t.Data.Name)
	if t.Data.Simulated {
		c.Say("SIMULATED data: these figures say that the system works, and nothing about any market.")
	}
	if t.candidate.BaselineMatch >= gate.DefaultPolicy().SLO.MatchRate {
		c.Say("The baseline is fitted to the same label: a match rate near 100 %% proves the wiring, not the model.")
	}
	return card, compared, nil
}

// stages runs the stages that need the services. Drift is monitored and has no result: it is a fact about the market.
func (r *runFlags) stages(ctx context.Context, c console.Console, store *evidence.Store, t rehearsal.Trial, pair *rehearsal.Pair, heldOut []traffic.State) ([]gate.Result, error) {
	engine, executor := pair.EngineProcess, pair.ExecutorProcess
	c.Say("up        ml-engine %s (pid %d), executor %s (pid %d)", engine.Addr("grpc"), engine.PID(), executor.Addr("grpc"), executor.PID())
	metrics, err := rehearsal.Metrics(ctx, store, engine.Addr("http"), executor.Addr("http"))
	if err != nil {
		return nil, err
	}
	c.Say("metrics   %s", metrics)
	if err := pair.Warm(ctx, heldOut[0]); err != nil {
		return nil, err
	}
	pace := func(stage string) traffic.Pace { return traffic.Pace{Progress: c.Progress(stage)} }
	varied := traffic.Varied(heldOut, 1000)
	s, err := t.Smoke(ctx, store, pair.Services.Engines[0].Scoring, varied, pace("smoke"))
	if err != nil {
		return nil, err
	}
	c.Say("smoke     %s", s)
	shadow, err := t.Shadow(ctx, store, rehearsal.ShadowFile, pair.Executor, varied, pace("shadow smoke"))
	if err != nil {
		return nil, err
	}
	c.Say("shadow    %s", shadow)
	replay, err := t.Shadow(ctx, store, rehearsal.ReplayFile, pair.Executor, heldOut, pace("replay"))
	if err != nil {
		return nil, err
	}
	c.Say("replay    %s", replay)
	drift, err := t.Drift(ctx, store, pair.Services.Engines[0])
	if err != nil {
		return nil, err
	}
	c.Say("drift     %s; monitored, not part of the scorecard", drift.Line())
	if story := drift.Story(); story != "" {
		c.Say("          %s", story)
	}
	rehearsed, err := dryRun(ctx, c, &rehearsal.Canary{
		Trial: t, Pair: pair, State: canary.State(filepath.Join(r.pair.Dir, "canary")), Folder: r.evidence, Policy: r.rehearsal,
		States: heldOut, Pace: traffic.Pace{Rate: rehearsal.Rate},
		Keep: func(write func(*evidence.Store) error) error { return write(store) },
	})
	if err != nil {
		return nil, err
	}
	return slices.Concat(s.SLO.Results, replay.SLO.Results, rehearsed.Checks), nil
}

// withStartHint adds what to do when a service of a pair cannot listen.
func withStartHint(err error) error {
	var start *process.StartError
	if errors.As(err, &start) {
		return console.WithHint(err, "the addresses can be moved with --%s-grpc and --%[1]s-http", start.Service)
	}
	return err
}
