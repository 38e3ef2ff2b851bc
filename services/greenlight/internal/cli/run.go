package cli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
)

// runFlags are the flags of greenlight run.
type runFlags struct {
	trainFlags

	evidence string
	work     flags.Work
	pair     rehearsal.Setup
	policy   flags.Policy
}

func runCommand(c console.Console) *cobra.Command {
	var r runFlags
	cmd := console.Command("run", "Run everything: from market data to a scorecard, with both services",
		`Run does everything: it reads (or simulates) a market, trains and judges the models, starts ml-engine and executor as
processes, smoke-tests them, replays the held-out period through the executor with the model as its shadow, measures the drift,
rehearses a canary (observe-only, with phases of a few seconds), stops the services, and prints the scorecard. Evidence goes to
the evidence folder, models and logs of the run to a new folder below --work.

Below the scorecard it shows who was right: whether the out-of-time scores of each trained model were better or worse than the
baseline's, judged by real outcomes, and how long a live run would have taken to show this. Agreement with the baseline is not
quality. A promotion needs a verdict on the quality of a live run.

It exits 3 if a target is missed, which is a valid result. It exits 1 if a stage could not run.`,
		func(ctx context.Context) error {
			var err error
			if r.pair.Policy, err = r.policy.ReadShort(); err != nil { // before anything slow
				return err
			}
			var card gate.Scorecard
			var compared *quality.Compared
			err = flags.WithEvidence(c, r.evidence, func(store *evidence.Store) (err error) {
				card, compared, err = r.run(ctx, c, store)
				return err
			})
			if err != nil {
				return err
			}
			err = c.Verdict(card)
			c.Say("")
			return errors.Join(compared.Table().Text(c.Out), err)
		})
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

// run runs the whole pipeline, stage by stage.
func (r *runFlags) run(ctx context.Context, c console.Console, store *evidence.Store) (none gate.Scorecard, _ *quality.Compared, err error) {
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
	r.pair.Services = process.Services{Programs: r.work.Programs, Models: r.models, Artifact: t.artifact}
	m := rehearsal.Main{
		Trial: rehearsal.Trial{Data: t.Data, Artifact: t.artifact, Git: console.Revision()}, Study: t.Study, Candidate: t.candidate, Offline: offline,
		Setup: r.pair, Folder: r.evidence,
	}
	card, compared, err := m.Run(ctx, c, store)
	if err != nil {
		return none, nil, err
	}
	c.Say("evidence  %s (%s)", r.evidence, t.Data.Source())
	c.Say("run       %s, %s", r.pair.Dir, time.Since(start).Round(100*time.Millisecond))
	c.Say("\n%s against %s on %s", t.candidate.Version, t.artifact.Baseline.Version, t.Data.Name)
	if t.Data.Simulated {
		c.Say("SIMULATED data: these figures show that the system works. They say nothing about any market.")
	}
	if t.candidate.BaselineMatch >= gate.DefaultPolicy().SLO.MatchRate {
		c.Say("The baseline is fitted to the same label: a match rate near 100 %% proves the integration, not the model.")
	}
	return card, compared, nil
}
