package cli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func canaryCommand(c console.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "canary", Short: "Run a model's shadows on a growing share of the requests, and stop when they do badly",
		Long: `Canary lets a model observe a growing share of the requests: 5, 10, 25, 50 and 100 %, for 30 minutes each. Whatever
happens, the decision that leaves an executor is the baseline's. A phase passes when its time is over, it has enough
comparisons and every target is met. An abort rule that applies, at any time, sets 0 % at once.

  greenlight canary preflight   is the pair fit to be judged?
  greenlight canary plan        what would be done; prints the phrase that confirms it
  greenlight canary start --confirm "<phrase>"
  greenlight canary status      from anywhere, at any time
  greenlight canary abort       0 % now

An executor holds a share only while the canary renews its lease. A canary that dies, hangs or is cut off means 0 %, and
"greenlight canary start --resume" goes on at the phase that it was in.`,
		Args: console.NoArgs,
	}
	cmd.AddCommand(canaryPreflightCommand(c), canaryPlanCommand(c), canaryStartCommand(c), canaryStatusCommand(c), canaryAbortCommand(c))
	return cmd
}

// canaryTimeout is how long a service may take to answer.
const canaryTimeout = 20 * time.Second

// canaryFlags say what a canary is run on.
type canaryFlags struct {
	flags.Pair

	evidence, models, state string
}

func (f *canaryFlags) declare(fs *pflag.FlagSet, c console.Console) {
	f.Pair.Declare(fs, c, flags.LocalEngine, flags.LocalExecutor, canaryTimeout)
	flags.Evidence(fs, &f.evidence)
	fs.StringVar(&f.models, "models", "models", "registry folder, in which the model has its own offline evaluation; without one, that in --evidence counts")
	declareCanaryState(fs, &f.state)
}

// canaryState is the default folder of the plans, the phrases and the journals.
var canaryState = filepath.Join("var", "canary")

func declareCanaryState(fs *pflag.FlagSet, state *string) {
	fs.StringVar(state, "state", canaryState, "folder of the plans, the phrases and the journals")
}

// stateFlag returns --state for another command; empty for the default.
func stateFlag(state string) string {
	if state == canaryState {
		return ""
	}
	return flags.Flagged("state", state)
}

// inspect connects to the pair and inspects it.
func (f *canaryFlags) inspect(ctx context.Context, use func(context.Context, *fleet.Services, *canary.Inspection) error) error {
	return f.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
		return use(ctx, services, canary.Inspect(ctx, services, canary.Target{Evidence: f.evidence, Models: f.models}))
	})
}

// refusedCanary adds to a refusal what to do about it.
func refusedCanary(err error) error {
	if hint := canary.Hint(err); err != nil && hint != "" {
		return console.WithHint(err, "%s", hint)
	}
	return err
}

func canaryPreflightCommand(c console.Console) *cobra.Command {
	var f canaryFlags
	cmd := &cobra.Command{
		Use: "preflight", Short: "Say whether the pair is fit for a canary",
		Long: `Preflight asks every service what it does, and judges whether a canary of it would mean anything: one model, one baseline,
passed offline, nobody else's canary, closed breakers, clocks that agree, traffic. It changes nothing, writes
canary_preflight.json, and exits 3 when something is not so. Drift is shown and blocks nothing.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.inspect(cmd.Context(), func(_ context.Context, _ *fleet.Services, in *canary.Inspection) error {
				var report *canary.PreflightReport
				if err := withEvidence(f.evidence, func(store *evidence.Store) (err error) {
					report, err = canary.WritePreflight(store, in, f.Executors, f.Engines, console.Revision())
					return err
				}); err != nil {
					return err
				}
				c.Say("drift     %s; monitored, blocks nothing", canaryview.PSI(in.PSI, report.PSIReason))
				c.Say("evidence  %s\n", filepath.Join(f.evidence, canary.PreflightFile))
				return c.Verdict(gate.Scorecard{Results: report.Checks})
			})
		},
	}
	f.declare(cmd.Flags(), c)
	return cmd
}

// unstopped returns what to do about executors that were not stopped.
func unstopped(err error) string {
	hint := fleet.Hint(err)
	if hint == "" {
		hint = "read the log of the executor"
	}
	return hint + ". Stopping the controller of the canary helps where its share is held by a lease, which lapses; a share that was set without a lease stays"
}

func canaryAbortCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var reason string
	cmd := &cobra.Command{
		Use: "abort", Short: "Set 0 % on every executor now, and read it back",
		Long: `Abort sets the share of shadows to 0 % on every executor and reads it back. It ends any lease: the canary that held it aborts
at its next renewal. It needs no confirmation and no state folder. It exits 1 when an executor has not obeyed; greenlight
rollback also takes the model back.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.Use(cmd.Context(), func(ctx context.Context, services *fleet.Services) error {
				failed := canaryview.Stops(c.Out, canary.Abort(ctx, services.Executors, reason))
				if failed != nil {
					return console.WithHint(errors.New("not every executor was stopped: see above"), "%s", unstopped(failed))
				}
				return nil
			})
		},
	}
	fs := cmd.Flags()
	p.Declare(fs, c, nil, flags.LocalExecutor, brakeTimeout)
	cmd.Flags().StringVar(&reason, "reason", "greenlight canary abort", "why, for the audit log")
	return cmd
}
