package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func smokeCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var n int
	cmd := console.Command("smoke", "Send 1,000 varied predictions to ml-engine and check every answer",
		`Smoke sends varied market states to a running ml-engine, alternately by name and as vectors, and compares every answer bit
for bit with the score that the same model gives in this process. It writes smoke_1k.json and exits 3 if an SLO is missed.`,
		func(ctx context.Context) error {
			return send(c, &l, at, flags.Released, func(t *rehearsal.Trial, states []traffic.State, conn *grpc.ClientConn, store *evidence.Store) error {
				r, err := t.Smoke(ctx, store, mlenginev1.NewScoringServiceClient(conn), traffic.Varied(states, n), l.Pace(c.Progress("smoke")))
				if err != nil {
					return err
				}
				c.Say("smoke     %s", r)
				return c.Verdict(r.SLO)
			})
		})
	l.Declare(cmd.Flags())
	at.Declare(cmd.Flags(), c, "engine", "127.0.0.1:4010", "gRPC address of ml-engine")
	declareCount(cmd.Flags(), &n, "predictions")
	console.OutputsVerdict(c, cmd)
	return cmd
}

// declareCount declares the flag for the number of calls; what names the calls.
func declareCount(fs *pflag.FlagSet, n *int, what string) {
	fs.IntVar(n, "n", 1000, "how many "+what)
	console.Require(fs, "n", "at least 1", func() bool { return *n >= 1 })
}

// send reads the states and passes them to fn, with the evidence and a connection to the service.
func send(c console.Console, l *flags.Load, at flags.Endpoint, decides flags.Decider, fn func(*rehearsal.Trial, []traffic.State, *grpc.ClientConn, *evidence.Store) error) error {
	if err := at.Open(); err != nil {
		return err
	}
	t, states, err := l.States(c, decides)
	if err != nil {
		return err
	}
	return flags.WithEvidence(c, l.Evidence, func(store *evidence.Store) error {
		return at.Dial(func(conn *grpc.ClientConn) error { return fn(t, states, conn, store) })
	})
}

func shadowSmokeCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var n int
	cmd := console.Command("shadow-smoke", "Send 1,000 varied decisions to executor and check baseline and shadow",
		`Shadow-smoke sends varied market states to a running executor and waits for their shadows. Then it sends them once more
over streams, as a trader does. It compares every baseline score and every shadow score of the first pass, and every decision
of the streams, bit for bit with a score computed in this process. The outcomes must add up to the requests. The baseline that
the executor names must be in --models: otherwise its answers cannot be checked, and the verdict is not PASS. It writes
shadow_smoke_1k.json and exits 3 if an SLO is missed.`,
		func(ctx context.Context) error {
			return sendShadows(ctx, c, &l, at, "shadow", rehearsal.ShadowFile, false, func(states []traffic.State) []traffic.State { return traffic.Varied(states, n) })
		})
	l.Declare(cmd.Flags())
	l.DeclareBaseline(cmd.Flags())
	at.Declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	declareCount(cmd.Flags(), &n, "decisions")
	console.OutputsVerdict(c, cmd)
	return cmd
}

// sendShadows sends the states that pick returns to a running executor, and writes the file.
func sendShadows(ctx context.Context, c console.Console, l *flags.Load, at flags.Endpoint, stage, file string, quotes bool, pick func([]traffic.State) []traffic.State) error {
	return send(c, l, at, l.DecidesAt(ctx, c, at), func(t *rehearsal.Trial, states []traffic.State, conn *grpc.ClientConn, store *evidence.Store) error {
		executor, picked, pace := fleet.NewExecutor(conn.Target(), conn), pick(states), l.Pace(c.Progress(stage))
		pace.Streams = file == rehearsal.ShadowFile
		if quotes {
			q := traffic.NewQuotes(executor, t.Data.Symbol, t.Data.Bars)
			pace.Before = func(ctx context.Context, i int) error { return q.Until(ctx, picked[i].Time.AsTime()) }
		}
		r, err := t.Shadow(ctx, store, file, executor, picked, pace)
		if err != nil {
			return err
		}
		c.Say("%-9s %s", stage, r)
		return c.Verdict(r.SLO)
	})
}

func replayCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var loop, quotes, now bool
	cmd := console.Command("replay", "Send a market to executor, minute by minute",
		`Replay sends every minute that the model was not trained on to a running executor, in order, waits for the shadows and
checks them like shadow-smoke. It writes shadow_replay.json and exits 3 if an SLO is missed.

With --quotes it also sends the market's quotes, in step with the minutes. The executor computes the outcomes from them, and
the quality of the model can be judged: see greenlight quality. If the market's times are in the future, start the executor
with --max-quote-ahead 0.

With --loop it repeats until it is stopped, to generate load for a demonstration; limit it with --rate. Like a trader it then
uses streams and does not wait for shadows. It writes no evidence, and prints the executor's counts for each round. With
--fresh it sends the states without their times, so they count as current: behind a gate, no model decides on features that are
more than two minutes old.`,
		func(ctx context.Context) error {
			switch {
			case loop && quotes:
				return console.Usagef("--quotes cannot be used with --loop: the quotes of a market can be sent only once")
			case now && !loop:
				return console.Usagef("--fresh needs --loop: a replay sends states with their times")
			case loop:
				return loopReplay(ctx, c, &l, at, now)
			case quotes && l.Data.Table.Path != "":
				return console.Usagef("--quotes needs a market: a table has no prices")
			}
			return sendShadows(ctx, c, &l, at, "replay", rehearsal.ReplayFile, quotes, func(states []traffic.State) []traffic.State { return states })
		})
	l.Declare(cmd.Flags())
	l.DeclareBaseline(cmd.Flags())
	at.Declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	cmd.Flags().BoolVar(&loop, "loop", false, "repeat until stopped")
	cmd.Flags().BoolVar(&now, "fresh", false, "with --loop: send the states without their times, so that they count as current")
	cmd.Flags().BoolVar(&quotes, "quotes", false, "also send the quotes of the market")
	console.OutputsVerdict(c, cmd)
	return cmd
}

// loopReplay replays until it is stopped. It retries while the executor cannot be reached.
func loopReplay(ctx context.Context, c console.Console, l *flags.Load, at flags.Endpoint, now bool) error {
	t, states, err := l.States(c, func(a *model.Artifact) (traffic.Baseline, error) {
		for {
			b, err := l.DecidesAt(ctx, c, at)(a)
			if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded || ctx.Err() != nil {
				return b, err
			}
			c.Say("executor cannot be reached, trying again: %v", err)
			if !traffic.Pause(ctx, time.Second) {
				return b, ctx.Err()
			}
		}
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the operator stopped the loop
	}
	if err != nil {
		return err
	}
	for i := range states {
		if now {
			states[i].Time = nil
		}
	}
	return at.Dial(func(conn *grpc.ClientConn) error {
		traffic.Loop(ctx, fleet.NewExecutor(conn.Target(), conn), states, l.Pace(nil), func(r traffic.Round, err error) {
			if err != nil {
				c.Say("%s  executor cannot be reached, trying again: %v", t.Data.Name, err)
				return
			}
			c.Say("%s  %s, match rate %.1f %% of %d, %s, shadow p95 %.2f ms",
				t.Data.Name, text.Count(r.Total, "decision"), 100*r.MatchRate(), r.Compared(), text.Count(r.Counts.Failed(), "shadow error"), r.Latency.Quantile(0.95))
		})
		return nil
	})
}
