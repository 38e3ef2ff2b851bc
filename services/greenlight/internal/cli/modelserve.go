package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/rollback"
)

// servingFlags say which ml-engines to talk to.
type servingFlags struct{ flags.Pair }

func (e *servingFlags) declare(cmd *cobra.Command, c console.Console) {
	fs := cmd.Flags()
	flags.TargetsVar(fs, &e.Engines, "engine", flags.LocalEngine, "gRPC addresses of ml-engine, one per replica")
	e.DeclareAccess(fs, c, controlTimeout)
}

func (e *servingFlags) validate() error {
	if len(e.Engines) == 0 {
		return console.Usagef("want at least one --engine")
	}
	return nil
}

func modelActivate(c console.Console) *cobra.Command {
	var e servingFlags
	var digest string
	cmd := &cobra.Command{
		Use: "activate MODEL", Short: "Let every ml-engine serve a model of its registry", Args: oneModel,
		Long: `Activate tells every ml-engine to load the model from its own registry folder, to verify it and to serve it. No request
fails because of that; a model that does not verify is refused, and the one before stays. With --state-dir an ml-engine
serves the model again after a restart; without, the answer says that it does not. greenlight model rollback undoes it.

It exits 1 when an ml-engine does not answer or refuses, and says which did.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := e.validate(); err != nil {
				return err
			}
			req := &mlenginev1.ActivateModelRequest{Model: args[0], Digest: digest}
			return e.Use(cmd.Context(), func(ctx context.Context, services *fleet.Services) error {
				answers, errs := make([]*mlenginev1.ActivateModelResponse, len(services.Engines)), make([]error, len(services.Engines))
				var calls sync.WaitGroup
				for i, engine := range services.Engines {
					calls.Go(func() { answers[i], errs[i] = engine.Models.ActivateModel(ctx, req) })
				}
				calls.Wait()
				return sayActivated(c, services.Engines, answers, errs)
			})
		},
	}
	e.declare(cmd, c)
	cmd.Flags().StringVar(&digest, "digest", "", "digest that the model must have, or its first 12 digits or more")
	return cmd
}

func sayActivated(c console.Console, engines []fleet.Engine, answers []*mlenginev1.ActivateModelResponse, errs []error) error {
	var failed error
	for i, engine := range engines {
		if errs[i] != nil {
			c.Say("engine    %s FAILED: %s", engine.Addr, said(errs[i]))
			failed = errors.Join(failed, fmt.Errorf("ml-engine %s: %w", engine.Addr, fleet.Plain(errs[i])))
			continue
		}
		active, before := answers[i].GetActive(), answers[i].GetPrevious()
		line := fmt.Sprintf("engine    %s serves %s", engine.Addr, modelText(active))
		if active.GetDigest() == before.GetDigest() && active.GetVersion() == before.GetVersion() {
			line += ", as before"
		} else {
			line += ", and not " + modelText(before)
		}
		c.Say("%s", line)
		if warning := answers[i].GetWarning(); warning != "" {
			_, _ = fmt.Fprintf(c.Err, "warning: ml-engine %s: %s\n", engine.Addr, text.Clean(warning, maxShown))
		}
	}
	return failed
}

// modelText is a model for people.
func modelText(m *mlenginev1.ActiveModel) string {
	return fmt.Sprintf("%s/%s (digest %.12s)", text.Clean(m.GetName(), maxShown), text.Clean(m.GetVersion(), maxShown), text.Clean(m.GetDigest(), maxShown))
}

func modelRollback(c console.Console) *cobra.Command {
	var e servingFlags
	cmd := &cobra.Command{
		Use: "rollback", Short: "Let every ml-engine serve the model before the last activation", Args: console.NoArgs,
		Long: `Rollback tells every ml-engine to return to the model that was active before the last activation, and reads back what it
serves. Shadows go on; greenlight rollback stops them as well, and writes evidence. Given again, it does nothing more.

It exits 1 when an ml-engine does not answer or has no model to return to, and says which did.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.validate(); err != nil {
				return err
			}
			var r *rollback.Result
			err := e.Use(cmd.Context(), func(ctx context.Context, services *fleet.Services) error {
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
		},
	}
	e.declare(cmd, c)
	return cmd
}
