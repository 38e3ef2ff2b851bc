package modelcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/replies"
)

// errNoEngine is the error of a command line without --engine.
var errNoEngine = console.Usagef("want at least one --engine")

func modelActivate(c console.Console) *cobra.Command {
	var e flags.Pair
	var digest string
	var show func([]replies.Reply) error
	cmd := &cobra.Command{
		Use: "activate MODEL", Short: "Let every ml-engine serve a model of its registry", Args: oneModel,
		Long: `Activate makes every ml-engine load the model from its own registry folder, verify it and serve it. No request fails
meanwhile. A model that does not verify is refused, and the current one stays active. With --state-dir, an ml-engine serves the model
again after a restart; the output shows whether it will. greenlight model rollback undoes it.

It exits 1 when an ml-engine does not answer or refuses, and shows which.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(e.Engines) == 0 {
				return errNoEngine
			}
			req := &mlenginev1.ActivateModelRequest{Model: args[0], Digest: digest}
			return e.Use(cmd.Context(), func(ctx context.Context, services *fleet.Services) error {
				return replies.Each(c, show, "ml-engine", services.Engines, func(engine fleet.Engine) string { return engine.Addr },
					func(engine fleet.Engine) (*mlenginev1.ActivateModelResponse, error) {
						return engine.Models.ActivateModel(ctx, req)
					},
					func(engine fleet.Engine, answer *mlenginev1.ActivateModelResponse) string {
						if warning := answer.GetWarning(); warning != "" {
							_, _ = fmt.Fprintf(c.Err, "warning: ml-engine %s: %s\n", engine.Addr, canaryview.Line(warning))
						}
						return activated(answer)
					})
			})
		},
	}
	e.DeclareEngines(cmd.Flags(), c, flags.ControlTimeout)
	cmd.Flags().StringVar(&digest, "digest", "", "digest that the model must have, or at least its first 12 digits")
	show = replies.Outputs(c, cmd)
	return cmd
}

// activated returns what an ml-engine serves now.
func activated(answer *mlenginev1.ActivateModelResponse) string {
	active, before := answer.GetActive(), answer.GetPrevious()
	if active.GetDigest() == before.GetDigest() && active.GetVersion() == before.GetVersion() {
		return "serves " + modelText(active) + ", as before"
	}
	return "serves " + modelText(active) + ", not " + modelText(before)
}

// modelText returns the name and the digest of a model.
func modelText(m *mlenginev1.ActiveModel) string {
	return fmt.Sprintf("%s/%s (digest %.12s)", canaryview.Line(m.GetName()), canaryview.Line(m.GetVersion()), canaryview.Line(m.GetDigest()))
}

func modelRollback(c console.Console) *cobra.Command {
	var e flags.Pair
	cmd := console.Command("rollback", "Let every ml-engine return to the model it served before the last activation",
		`Rollback makes every ml-engine return to the model that was active before the last activation, and reads back what it serves.
Shadows continue; greenlight rollback also stops them, and writes evidence, which ends the promotion of the model. A second rollback changes nothing.

It exits 1 when an ml-engine does not answer or has no model to return to, and shows which.`,
		func(ctx context.Context) error {
			if len(e.Engines) == 0 {
				return errNoEngine
			}
			var r *rollback.Result
			err := e.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
				r = rollback.Run(ctx, services, "")
				return nil
			})
			if r == nil {
				return err
			}
			r.Text(c.Out)
			if undone := r.Err(); undone != nil {
				return console.WithHint(errors.Join(undone, err), "%s", r.Hint())
			}
			return err
		})
	e.DeclareEngines(cmd.Flags(), c, flags.ControlTimeout)
	return cmd
}
