package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
)

// gateReplay is what is replayed.
type gateReplay struct {
	log, plan, models, model, salt, from, to string
}

func gateReplayCommand(c console.Console) *cobra.Command {
	var g gateReplay
	cmd := console.Command("replay --feature-log DIR --plan FILE", "Compute every decision of a feature log again, bit for bit",
		`Replay reads the rows of a feature log that were decided behind a gate, and computes each decision again from the row: from the
scores, the request id, the symbol, the times, the features and the outcome of the shadow. A decision of the model must be its
score bit for bit, with every check passed; a decision of the baseline must be the baseline's score, for the reason that the
checks give. The model's score must be that of the features. What is not in a row is taken from the log, and counted: the state
of the gate (its lease, latches and budget), an answer of the model that came too late or after the caller had left, an
impossible event_time, and a PredictWithShadow, which never decides by the model.

The model of the plan must be in --models, with its ranges. Rows of other gates are read with their own plans: --from and --to
bound the time of arrival.

It exits 3 when a row differs, and prints the first differences with their request ids.`,
		func(context.Context) error { return refusedGate(g.run(c)) })
	fs := cmd.Flags()
	fs.StringVar(&g.log, "feature-log", "", "folder of the feature log")
	fs.StringVar(&g.plan, "plan", "", "file of the plan of the gate")
	fs.StringVar(&g.models, "models", "models", "registry folder with the model of the plan")
	fs.StringVar(&g.model, "model", "", "its entry; by default that of the plan")
	fs.StringVar(&g.salt, "sample-salt", "greenlight", "the --sample-salt of the executors")
	fs.StringVar(&g.from, "from", "", "replay the rows that arrived at this time or later, for example 2026-11-30T15:00:00Z")
	fs.StringVar(&g.to, "to", "", "replay the rows that arrived before this time")
	return cmd
}

func (g *gateReplay) run(c console.Console) error {
	if g.log == "" || g.plan == "" {
		return console.Usagef("give --feature-log and --plan")
	}
	from, to := time.Unix(0, 0).UTC(), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, bound := range map[string]struct {
		text string
		at   *time.Time
	}{"from": {g.from, &from}, "to": {g.to, &to}} {
		if bound.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, bound.text)
		if err != nil {
			return console.Usagef("--%s %q: want a time like 2026-11-30T15:00:00Z", name, bound.text)
		}
		*bound.at = at
	}
	f, err := gatekeeper.ReadPlan(g.plan)
	if err != nil {
		return err
	}
	if g.model == "" {
		g.model = f.Entry
	}
	artifact, err := model.OpenRegistry(g.models).Load(g.model)
	if err != nil {
		return err
	}
	r, err := gatekeeper.NewReplay(f.Plan, g.salt, artifact)
	if err != nil {
		return err
	}
	progress := c.Progress("replay")
	if err := r.Read(featurelog.Read(g.log, from, to), func(done int) { progress(done, -1) }); err != nil {
		return err
	}
	if err := r.Text(c.Out); err != nil {
		return err
	}
	if r.Different > 0 {
		return console.ErrGate
	}
	return nil
}
