package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/replies"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/shadowview"
)

func shadowWatchCommand(c console.Console) *cobra.Command {
	var at flags.Endpoint
	var group flags.Fleet
	var outcomes []string
	var count uint64
	req := &executorv1.WatchComparisonsRequest{}
	cmd := console.Command("watch", "Print shadows of an executor as they end",
		`Watch prints a line for every shadow when it ends: the time, the outcome, the scores of baseline and shadow, their
difference, the time since the request arrived, the schema of the row that was sent to ml-engine, the symbol and the request's
id. It ends when it is interrupted, or after --count lines, and prints a line of counts on standard error. The executor drops
and counts comparisons that are not read in time, so they cannot delay a decision. A sample has the same requests on every
executor.

--features adds a line with the features. They are the input of a trading decision, so this needs an operator's token or
certificate (--control-token-file, --tls-cert), and the executor writes the call to its audit log.`,
		func(ctx context.Context) error {
			if group.Given() {
				return console.Usagef("the executors of a group do not publish single comparisons: name one executor with --executor")
			}
			if !utf8.ValidString(req.GetSymbol()) {
				return console.Usagef("--symbol %q: want UTF-8", req.GetSymbol())
			}
			for _, name := range outcomes {
				o, ok := shadowview.Outcome(name)
				if !ok {
					return console.Usagef("--outcome %q: want one of %s", name, outcomeNames())
				}
				req.Outcomes = append(req.Outcomes, o)
			}
			return at.Dial(func(conn *grpc.ClientConn) error {
				summary, err := shadowview.Watch(ctx, executorv1.NewShadowServiceClient(conn), req, count, c.Out)
				if err == nil || summary.Total() > 0 {
					_, _ = fmt.Fprintln(c.Err, summary)
				}
				if err != nil {
					return fmt.Errorf("executor %s: %w", at.Addr, err)
				}
				return nil
			})
		})
	fs := cmd.Flags()
	at.Declare(fs, c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	group.Declare(fs)
	fs.StringSliceVar(&outcomes, "outcome", nil, "outcomes to print, for example mismatch; by default all but not_sampled")
	fs.StringVar(&req.Symbol, "symbol", "", "instrument to print; by default all")
	fs.Float64Var(&req.SamplePercent, "sample", 100, "percentage of the selected shadows to print, more than 0 and at most 100")
	fs.BoolVar(&req.IncludeFeatures, "features", false, "print the features too")
	fs.Uint64Var(&count, "count", 0, "number of shadows to print; 0 is until interrupted")
	console.Require(fs, "sample", "more than 0 and at most 100", func() bool { return req.GetSamplePercent() > 0 && req.GetSamplePercent() <= 100 })
	return cmd
}

func shadowReportCommand(c console.Console) *cobra.Command {
	var at flags.Endpoint
	var group flags.Fleet
	var show func([]replies.Reply) error
	cmd := console.Command("report", "Compare the model under trial and its challengers",
		`Report prints one line for the model under trial and one for each challenger of an executor, over the rolling window: the
comparisons with the baseline, the match rate with its 95 % bounds, coverage, error rate, difference, latency and breaker.

A challenger that is the model under trial itself is an A/A test. Its noise floor is the fraction of requests for which the two
scores do not match. It is 0 % for a deterministic model. Anything above 0 % is scoring noise, which also affects every match
rate.`,
		func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, statusTimeout+fleetgroup.Slack)
			defer cancel()
			if err := group.Check(); err != nil {
				return err
			}
			if group.Given() {
				return fleetgroup.UseServices(ctx, group.Address, at.Access.Access, nil, fleetgroup.Brake{}, func(services *fleet.Services, _ *fleetgroup.Group) error {
					return showReports(ctx, c, show, services.Executors)
				})
			}
			return at.Dial(func(conn *grpc.ClientConn) error {
				ctx, cancel := context.WithTimeout(ctx, statusTimeout)
				defer cancel()
				return showReports(ctx, c, show, []fleet.Executor{fleet.NewExecutor(at.Addr, conn)})
			})
		})
	at.Declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	group.Declare(cmd.Flags())
	show = replies.Outputs(c, cmd)
	return cmd
}

// showReports prints the report of every executor.
func showReports(ctx context.Context, c console.Console, show func([]replies.Reply) error, executors []fleet.Executor) error {
	var list []replies.Reply
	for i, e := range executors {
		r, err := e.Report(ctx)
		if err == nil {
			err = fleet.CheckChallengers(r)
		}
		if err != nil {
			return err
		}
		if len(executors) > 1 {
			c.Say("executor  %s", e.Addr)
		}
		one, err := replies.Of(e.Addr, r, nil)
		if err = errors.Join(err, shadowview.Report(r, c.Out)); err != nil {
			return err
		}
		if list = append(list, one); i < len(executors)-1 {
			c.Say("")
		}
	}
	return show(list)
}

func outcomeNames() string {
	var names []string
	for _, o := range shadow.Outcomes() {
		names = append(names, o.String())
	}
	return strings.Join(names, ", ")
}
