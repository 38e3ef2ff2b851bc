package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

func rollbackCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var folder, reason string
	cmd := &cobra.Command{
		Use: "rollback", Short: "The emergency brake: return to the previous model, and stop all shadows",
		Long: `Rollback returns every ml-engine to the model that was active before the last activation, and stops the shadows of
every executor (0 %, OFF). It calls all services concurrently, reads back the result, and needs no confirmation. It also ends
the lease of a running canary, which then aborts. Its record in the evidence ends the promotion of the model: greenlight gate
plan and gate start refuse the model until it is promoted again.

A second rollback changes nothing: an ml-engine that has already returned stays there. Afterwards it writes
rollback_<time>.json to the evidence folder. If a service was not rolled back, it names the service and exits 1.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r *rollback.Result
			err := p.Brake(cmd.Context(), fleetgroup.Brake{Kind: fleetv1.StopKind_STOP_KIND_ABORT, Reason: reason, Say: c.Say}, func(ctx context.Context, services *fleet.Services, _ *fleetgroup.Group) error {
				r = rollback.Run(ctx, services, reason)
				return nil
			})
			if r == nil {
				return err
			}
			r.Text(c.Out)
			if kept := keepRollback(c, folder, r); kept != nil {
				err = errors.Join(err, fmt.Errorf("the evidence was not written: %w", kept))
			}
			if undone := r.Err(); undone != nil {
				return console.WithHint(errors.Join(undone, err), "%s", r.Hint())
			}
			return err
		},
	}
	fs := cmd.Flags()
	p.Declare(fs, c, flags.LocalEngine, flags.LocalExecutor, flags.BrakeTimeout)
	p.DeclareFleet(fs, true)
	fs.StringVar(&reason, "reason", "greenlight rollback", "reason, for the audit log and the evidence")
	flags.Evidence(fs, &folder)
	return cmd
}

// keepRollback writes the evidence.
func keepRollback(c console.Console, folder string, r *rollback.Result) error {
	name, err := flags.Keep(c, folder, func(store *evidence.Store) (string, error) { return r.Write(store, console.Revision()) })
	if err != nil {
		return err
	}
	c.Say("evidence  %s", filepath.Join(folder, name))
	return nil
}
