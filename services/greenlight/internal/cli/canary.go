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
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

func canaryCommand(c console.Console) *cobra.Command {
	return console.Group("canary", "Run a model's shadows on a growing share of the requests, and stop if they fail",
		`Canary lets a model observe a growing share of the requests: 5, 10, 25, 50 and 100 %, for 30 minutes each. The baseline
still makes every decision. A phase passes when its time is up, it has enough comparisons and every target is met. An abort
rule may apply at any time and immediately sets 0 %.

  greenlight canary preflight   is the pair ready?
  greenlight canary plan        shows the plan and prints the phrase that confirms it
  greenlight canary start --confirm "<phrase>"
  greenlight canary status      shows the progress, at any time
  greenlight canary abort       0 % now

An executor keeps its share only while the canary renews the lease. If the canary dies, hangs or loses the network, the share
drops to 0 %, and "greenlight canary start --resume" continues at the same phase.`,
		canaryPreflightCommand(c), canaryPlanCommand(c), canaryStartCommand(c), canaryStatusCommand(c), canaryAbortCommand(c))
}

// canaryTimeout is how long a service may take to answer.
const canaryTimeout = 20 * time.Second

// canaryFlags are the flags that name the services and folders of a canary.
type canaryFlags struct {
	flags.Pair

	evidence, models, state string
	minFleet                float64
}

// fleet returns the group of the canary; nil without one.
func (f *canaryFlags) fleet() *canary.Fleet {
	if !f.Fleet.Given() {
		return nil
	}
	return &canary.Fleet{Address: f.Fleet.Address, MinFleet: f.minFleet / 100}
}

func (f *canaryFlags) declare(fs *pflag.FlagSet, c console.Console) {
	f.Pair.Declare(fs, c, flags.LocalEngine, flags.LocalExecutor, canaryTimeout)
	f.DeclareFleet(fs, true)
	fs.Float64Var(&f.minFleet, "min-fleet", 100*canary.DefaultMinFleet, "with --fleet: percentage of the executors present at the start of a phase that must report during it")
	console.Require(fs, "min-fleet", "more than 0 and at most 100", func() bool { return f.minFleet > 0 && f.minFleet <= 100 })
	flags.Evidence(fs, &f.evidence)
	fs.StringVar(&f.models, "models", "models", "registry folder with the model and its offline evaluation; if there is none, the evaluation in --evidence is used")
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
func (f *canaryFlags) inspect(ctx context.Context, use func(context.Context, *fleet.Services, *preflight.Inspection) error) error {
	return f.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
		return use(ctx, services, canary.Target{Evidence: f.evidence, Models: f.models, Fleet: f.fleet()}.Inspect(ctx, services))
	})
}

// refusedCanary adds a hint to a refusal.
func refusedCanary(err error) error { return console.Advised(err, canary.Hint(err)) }

func canaryPreflightCommand(c console.Console) *cobra.Command {
	var f canaryFlags
	cmd := console.Command("preflight", "Check whether the pair is ready for a canary",
		`Preflight queries every service and checks the conditions for a canary: one model, one baseline, a passed offline gate, no
other canary, closed breakers, synchronized clocks, traffic. It changes nothing on the services, writes canary_preflight.json,
and exits 3 if a check fails. Drift is shown but blocks nothing.`,
		func(ctx context.Context) error {
			return f.inspect(ctx, func(_ context.Context, _ *fleet.Services, in *preflight.Inspection) error {
				report, err := flags.Keep(c, f.evidence, func(store *evidence.Store) (*preflight.Report, error) {
					return preflight.Write(store, in, in.Addresses(), f.Engines, console.Revision())
				})
				if err != nil {
					return err
				}
				c.Say("drift     %s; monitored, blocks nothing", canaryview.PSI(in.PSI, report.PSIReason))
				c.Say("evidence  %s\n", filepath.Join(f.evidence, preflight.File))
				return c.Verdict(gate.Scorecard{Results: report.Checks})
			})
		})
	f.declare(cmd.Flags(), c)
	console.OutputsVerdict(c, cmd)
	return cmd
}

// unstopped returns the hint for executors that were not stopped.
func unstopped(err error) string {
	hint := fleet.Hint(err)
	if hint == "" {
		hint = "read the log of the executor"
	}
	return hint + ". If a canary's lease holds the share, stop the canary's controller and the lease lapses. A share that was set without a lease stays"
}

func canaryAbortCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var reason string
	cmd := &cobra.Command{
		Use: "abort", Short: "Set 0 % on every executor now, and read it back",
		Long: `Abort sets the share of shadows to 0 % on every executor and reads it back. It ends any lease: the canary that held it
aborts at its next renewal. It needs no confirmation and no state folder. It exits 1 if an executor is not at 0 %. To restore
the previous model as well, use greenlight rollback.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.Brake(cmd.Context(), fleetgroup.Brake{Kind: fleetv1.StopKind_STOP_KIND_ABORT, Reason: reason, Say: c.Say}, func(ctx context.Context, services *fleet.Services, _ *fleetgroup.Group) error {
				failed := canaryview.Stops(c.Out, canary.Abort(ctx, services.Executors, reason))
				if failed != nil {
					return console.WithHint(errors.New("not every executor was stopped: see above"), "%s", unstopped(failed))
				}
				return nil
			})
		},
	}
	fs := cmd.Flags()
	p.Declare(fs, c, nil, flags.LocalExecutor, flags.BrakeTimeout)
	p.DeclareFleet(fs, true)
	cmd.Flags().StringVar(&reason, "reason", "greenlight canary abort", "reason, for the audit log")
	return cmd
}

func canaryStatusCommand(c console.Console) *cobra.Command {
	var state, run string
	var access flags.Access
	var show func(*canary.Record) error
	cmd := console.Command("status", "Show the current or the last canary",
		`Status shows a run from its journal, phase by phase, and the current share of its executors. It changes nothing and can be
used while the canary runs. Without --run it shows the newest run and lists the others.`,
		func(ctx context.Context) error {
			return refusedCanary(showCanary(ctx, c, show, canary.State(state), run, access))
		})
	declareCanaryState(cmd.Flags(), &state)
	cmd.Flags().StringVar(&run, "run", "", "the run to show; by default the newest")
	access.Declare(cmd.Flags(), c)
	show = console.Outputs[*canary.Record](c, cmd, "greenlight/canary_status/v1")
	return cmd
}

func showCanary(ctx context.Context, c console.Console, show func(*canary.Record) error, state canary.State, id string, access flags.Access) error {
	plan, record, err := state.Read(id)
	if err != nil {
		return err
	}
	running, err := state.Running(record.ID)
	if err != nil {
		return err
	}
	if err := errors.Join(canaryview.Status(c.Out, record, plan.Model.Version, running), show(record)); err != nil {
		return err
	}
	if err := sayRollouts(ctx, c, plan, access); err != nil {
		return err
	}
	if id != "" {
		return nil
	}
	ids, err := state.Runs()
	for i := len(ids) - 2; i >= 0 && err == nil; i-- {
		var other *canary.Record
		if _, other, err = state.Read(ids[i]); err == nil {
			c.Say("earlier   %s  %s%s", other.ID, other.Decision, canaryview.Because(other.Reason))
		}
	}
	return err
}

// sayRollouts prints the current rollout of each executor of the plan. An executor that cannot be reached is printed, and is
// not an error.
func sayRollouts(ctx context.Context, c console.Console, plan *canary.Plan, access flags.Access) error {
	ctx, cancel := context.WithTimeout(ctx, flags.BrakeTimeout+fleetgroup.Slack)
	defer cancel()
	return plan.Reach(ctx, access.Access, func(services *fleet.Services, _ *fleetgroup.Group) error {
		ctx, cancel := context.WithTimeout(ctx, flags.BrakeTimeout)
		defer cancel()
		canaryview.Rollouts(ctx, c.Out, services.Executors)
		return nil
	})
}
