package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func canaryStatusCommand(c console.Console) *cobra.Command {
	var state, run string
	var access flags.Access
	cmd := &cobra.Command{
		Use: "status", Short: "Show the current or the last canary",
		Long: `Status shows a run from its journal, phase by phase, and the current share of its executors. It changes nothing and may be
called while the canary runs. Without --run it shows the newest run and lists the others.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return refusedCanary(showCanary(cmd.Context(), c, canary.State(state), run, access))
		},
	}
	declareCanaryState(cmd.Flags(), &state)
	cmd.Flags().StringVar(&run, "run", "", "the run to show; by default the newest")
	access.Declare(cmd.Flags(), c)
	return cmd
}

func showCanary(ctx context.Context, c console.Console, state canary.State, id string, access flags.Access) error {
	plan, record, err := state.Read(id)
	if err != nil {
		return err
	}
	running, err := state.Running(record.ID)
	if err != nil {
		return err
	}
	if err := canaryview.Status(c.Out, record, plan.Model.Version, running); err != nil {
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
			c.Say("earlier   %s  %s%s", other.ID, other.Decision, because(other.Reason))
		}
	}
	return err
}

// sayRollouts prints what the executors of the plan do now. An executor that is not reached is printed, and is no error.
func sayRollouts(ctx context.Context, c console.Console, plan *canary.Plan, access flags.Access) error {
	services, err := fleet.Dial(fleet.Options{Access: access.Access, Executors: plan.Executors})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, brakeTimeout)
	defer cancel()
	canaryview.Rollouts(ctx, c.Out, services.Executors)
	return services.Close()
}
