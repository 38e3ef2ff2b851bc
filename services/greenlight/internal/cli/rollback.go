package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

// brakeTimeout is how long a rollback waits for a service that does not answer. A healthy pair takes milliseconds.
const brakeTimeout = 2 * time.Second

func rollbackCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var folder, reason string
	cmd := &cobra.Command{
		Use: "rollback", Short: "The emergency brake: return to the previous model, and stop all shadows",
		Long: `Rollback makes every ml-engine return to the model that was active before the last activation, and every executor stop its
shadows (0 %, OFF). It calls all services at once, reads back the result, and asks for no confirmation. It also ends the lease
of a running canary, which then aborts. The promotion of the model ends with the record in the evidence: greenlight gate plan and
gate start refuse the model until it is promoted again.

A second rollback changes nothing: an ml-engine that has already returned stays there. Afterwards it writes
rollback_<time>.json to the evidence folder. It exits 1 when a service was not rolled back, and shows which.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r *rollback.Result
			err := p.Brake(cmd.Context(), fleetgroup.Brake{Kind: fleetv1.StopKind_STOP_KIND_ABORT, Reason: reason, Say: c.Say}, func(ctx context.Context, services *fleet.Services) error {
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
	p.Declare(fs, c, flags.LocalEngine, flags.LocalExecutor, brakeTimeout)
	p.DeclareFleet(fs, true)
	fs.StringVar(&reason, "reason", "greenlight rollback", "why, for the audit log and the evidence")
	flags.Evidence(fs, &folder)
	return cmd
}

// keepRollback writes the evidence.
func keepRollback(c console.Console, folder string, r *rollback.Result) error {
	name, err := kept(c, folder, func(store *evidence.Store) (string, error) { return r.Write(store, console.Revision()) })
	if err != nil {
		return err
	}
	c.Say("evidence  %s", filepath.Join(folder, name))
	return nil
}
