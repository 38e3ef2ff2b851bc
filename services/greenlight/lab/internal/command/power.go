package command

import (
	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/power"
)

// maxPowerShadows bounds a simulated run: the rules are evaluated for every number of shadows.
const maxPowerShadows = 1_000_000

func powerCommand(c console.Console) *cobra.Command {
	o := power.Options{Policy: gate.DefaultPolicy()}
	cmd := &cobra.Command{
		Use: "power", Short: "Measure how often a canary aborts a good model, and how soon it aborts a bad one",
		Long: `Power simulates shadows with known error rates, and counts the verdicts of the canary's rules: the same functions that judge
a live canary, with the default policy. They are applied after every shadow, which gives the most false alarms. A run is one
phase; --requests counts the requests with a shadow, which in a phase of 5 % is one in twenty.

A true rate of 95 % matches, or of 2 % errors, is the limit that the tests allow: every abort by a test is a false alarm. The
threshold for errors is also 2 %. A run at exactly that rate is above it half of the time, and is aborted once it has 500
shadows. That is not a false alarm, because the SLO is 1 %; it has a separate column.

The naive rule is shown for comparison: ` + power.Naive() + `.

It exits 3 when a target is missed: at most 1 % false alarms, and half of the runs aborted within a given number of shadows. The
intervals show the sampling error.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.Runs < 1:
				return console.Usagef("--runs %d: want at least 1", o.Runs)
			case o.Shadows < 1 || o.Shadows > maxPowerShadows:
				return console.Usagef("--requests %d: want 1 to %d", o.Shadows, maxPowerShadows)
			}
			o.Progress = c.Progress("simulating")
			rows, err := power.Measure(cmd.Context(), power.Truths(), o)
			if err != nil {
				return err
			}
			c.Say("simulated: %d runs of %d shadows each, seed %d; the tests reject at alpha %v, the thresholds count from %d shadows",
				o.Runs, o.Shadows, o.Seed, o.Policy.Alpha, o.Policy.MinComparisons)
			c.Say("naive rule: %s\n", power.Naive())
			if err := power.Table(c.Out, rows); err != nil {
				return err
			}
			c.Say("")
			return c.Verdict(power.Scorecard(rows))
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&o.Runs, "runs", 2000, "number of simulated runs per truth")
	fs.IntVar(&o.Shadows, "requests", 20_000, "number of requests with a shadow in a run that is not aborted")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the draws")
	return cmd
}
