package cli

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/replies"
)

// maxRevision is the largest revision of a rollout.
const maxRevision = 1 << 53

// eachRollout calls all executors concurrently and prints their rollouts.
func eachRollout(ctx context.Context, c console.Console, show func([]replies.Reply) error, e *flags.Pair, call func(context.Context, fleet.Executor) (*executorv1.Rollout, error)) error {
	if err := e.CheckExecutors(); err != nil {
		return err
	}
	return e.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
		return replies.Each(c, show, "executor", services.Executors, func(x fleet.Executor) string { return x.Addr },
			func(x fleet.Executor) (*executorv1.Rollout, error) { return call(ctx, x) },
			func(_ fleet.Executor, r *executorv1.Rollout) string { return canaryview.Rollout(r) })
	})
}

func rolloutGet(c console.Console) *cobra.Command {
	var e flags.Pair
	var show func([]replies.Reply) error
	cmd := console.Command("get", "Show the rollout of every executor",
		`Get shows the rollout of every executor: the percentage of requests that get a shadow, the mode, the revision, the holder of a
lease and its remaining time, and who set it, when and why. It exits 1 if an executor does not answer.`,
		func(ctx context.Context) error {
			return eachRollout(ctx, c, show, &e, func(ctx context.Context, x fleet.Executor) (*executorv1.Rollout, error) {
				got, err := x.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
				return got.GetRollout(), err
			})
		})
	show = replies.Outputs(c, cmd)
	e.DeclareExecutors(cmd.Flags(), c, flags.ControlTimeout)
	e.DeclareFleet(cmd.Flags(), false)
	return cmd
}

func rolloutSet(c console.Console) *cobra.Command {
	var e flags.Pair
	var percent float64
	var mode, holder, reason string
	var lease time.Duration
	var revision uint64
	var quality flags.QualityPlan
	var keep bool
	var show func([]replies.Reply) error
	cmd := &cobra.Command{
		Use: "set --percent P", Short: "Set the rollout of every executor", Args: console.NoArgs,
		Long: `Set gives every executor the percentage of requests that get a shadow. The baseline still makes every decision.
Without --lease the percentage stays until it is set again. With --lease and --holder it drops to 0 % unless the same command
is repeated within that time. With --quality-cap and --quality-margin the quality of the model is judged under that plan: see
greenlight quality. With --keep-plan each executor keeps its quality plan, for example after a promotion. With neither there is
no plan, and no verdict on quality. Set refuses to change the rollout of a canary: end the canary with greenlight canary abort.

If an executor does not answer or refuses, it names the executor and exits 1.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := &executorv1.SetRolloutRequest{Percent: percent, Holder: holder, Reason: text.Printable(reason), ExpectedRevision: revision}
			switch {
			case e.Fleet.Given():
				return console.Usagef("the rollout of a single executor of a group cannot be set: greenlight canary start publishes one record for all, and greenlight fleet abort ends it")
			case !cmd.Flags().Changed("percent"):
				return console.Usagef("give --percent, 0 to 100")
			case !(percent >= 0 && percent <= 100):
				return console.Usagef("--percent %v: want 0 to 100", percent)
			case !utf8.ValidString(holder):
				return console.Usagef("--holder %q: want UTF-8", holder)
			case revision > maxRevision:
				return console.Usagef("--if-revision %d: want at most %d", revision, uint64(maxRevision))
			case cmd.Flags().Changed("lease") != (holder != ""):
				return console.Usagef("give both --lease and --holder, or none")
			}
			if cmd.Flags().Changed("lease") {
				req.Lease = durationpb.New(lease)
			}
			if mode == "" {
				mode = "observe-only"
				if percent == 0 {
					mode = "off"
				}
			}
			word := "ROLLOUT_MODE_" + strings.ToUpper(strings.ReplaceAll(mode, "-", "_"))
			req.Mode = executorv1.RolloutMode(executorv1.RolloutMode_value[word])
			if req.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_UNSPECIFIED {
				return console.Usagef("--mode %q: want off or observe-only", mode)
			}
			plan, err := quality.Plan()
			if err != nil {
				return err
			}
			if keep && plan != (outcome.Plan{}) {
				return console.Usagef("give either --keep-plan or --quality-cap and --quality-margin")
			}
			req.Plan = wire.Plan(plan)
			return eachRollout(cmd.Context(), c, show, &e, func(ctx context.Context, x fleet.Executor) (*executorv1.Rollout, error) {
				req := proto.CloneOf(req)
				if keep {
					now, err := x.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
					if err != nil {
						return nil, err
					}
					req.Plan = now.GetRollout().GetPlan()
				}
				got, err := x.Rollouts.SetRollout(ctx, req)
				return got.GetRollout(), err
			})
		},
	}
	e.DeclareExecutors(cmd.Flags(), c, flags.ControlTimeout)
	e.DeclareFleet(cmd.Flags(), false)
	fs := cmd.Flags()
	fs.Float64Var(&percent, "percent", 0, "percentage of requests that get a shadow, 0 to 100")
	fs.StringVar(&mode, "mode", "", "off or observe-only; by default off at 0 % and observe-only otherwise")
	fs.DurationVar(&lease, "lease", 0, "how long the rollout stays in force unless it is renewed, 1s to 1h")
	fs.StringVar(&holder, "holder", "", "who holds the lease")
	fs.StringVar(&reason, "reason", "greenlight rollout set", "reason, for the audit log")
	quality.Declare(fs)
	fs.BoolVar(&keep, "keep-plan", false, "keep the quality plan that the executor has")
	fs.Uint64Var(&revision, "if-revision", 0, "change the rollout only if this revision is in force; 0 is any")
	show = replies.Outputs(c, cmd)
	return cmd
}
