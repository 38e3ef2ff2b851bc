package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/status"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/replies"
)

// statusTimeout is far more than the first answer about drift takes: a few hundred milliseconds, because it computes the
// noise.
const statusTimeout = 5 * time.Second

func statusCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var folder, state string
	var show func(*status.Status) error
	cmd := console.Command("status", "One screen: model, rollout, shadow, drift, evidence, canary",
		`Status shows the model and the drift of the last 7 days for every ml-engine; the shadow, the rollout and who set it for
every executor; whether the evidence folder verifies; and the result of the newest canary. A running canary is shown from its
journal in --state (phase, share, start) and from the executors' leases (holder, time left), so a canary on another machine is
shown too. If a service does not answer, status shows the error and what to do, and exits 1.`,
		func(ctx context.Context) error {
			return p.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
				s := status.Read(ctx, services, folder, canary.State(state))
				if err := errors.Join(s.Screen(c.Out), show(s)); err != nil {
					return err
				}
				if s.Reached() {
					return nil
				}
				if hints := s.Hints(); len(hints) > 0 {
					return console.WithHint(replies.ErrUnreached, "%s", strings.Join(hints, "; "))
				}
				return replies.ErrUnreached
			})
		})
	fs := cmd.Flags()
	p.Declare(fs, c, flags.LocalEngine, flags.LocalExecutor, statusTimeout)
	p.DeclareFleet(fs, false)
	show = console.Outputs[*status.Status](c, cmd, "greenlight/status/v1")
	flags.Evidence(fs, &folder)
	declareCanaryState(fs, &state)
	return cmd
}
