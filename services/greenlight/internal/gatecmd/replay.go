package gatecmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
)

// gateReplay holds the flags of a replay.
type gateReplay struct {
	log, plan, models, model, salt, from, to string
}

func gateReplayCommand(c console.Console) *cobra.Command {
	var g gateReplay
	cmd := console.Command("replay --feature-log DIR --plan FILE", "Recompute every decision in a feature log, bit for bit",
		`Replay reads the rows of a feature log that were decided behind a gate, and recomputes each decision from its row: from the
scores, the request id, the symbol, the times, the features and the outcome of the shadow. A decision of the model must be its
score bit for bit, with every check passed; a decision of the baseline must be the baseline's score, for the reason that the
checks give. The model's score must follow from the features. The reasons that a row cannot prove are taken from the log, and
counted: the state of the gate (its lease, latches and budget), a model answer that came too late or after the caller had left,
an impossible event_time, and a PredictWithShadow, which never uses the model's score.

The model of the plan must be in --models, with its ranges. To replay the rows of several gates,
run it once per plan: --from and --to bound the time of arrival.

It exits 3 if a row differs, and prints the first differences with their request ids.`,
		func(context.Context) error { return refusedGate(g.run(c)) })
	fs := cmd.Flags()
	fs.StringVar(&g.log, "feature-log", "", "folder of the feature log")
	fs.StringVar(&g.plan, "plan", "", "file of the plan of the gate")
	fs.StringVar(&g.models, "models", "models", "registry folder with the model of the plan")
	fs.StringVar(&g.model, "model", "", "the model's entry in the registry; the plan's by default")
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
