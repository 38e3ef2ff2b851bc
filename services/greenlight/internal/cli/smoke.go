package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// loadFlags say what to send, and against which model the answers are checked.
type loadFlags struct {
	data        DataFlags
	models      string
	model       string
	concurrency int
	rate        float64
	timeout     time.Duration
	evidence    string
}

func (l *loadFlags) declare(fs *pflag.FlagSet) {
	l.data.Declare(fs)
	fs.StringVar(&l.models, "models", "models", "registry folder with the model that is served")
	fs.StringVar(&l.model, "model", DefaultModel, "the model that is served: name/version, or version")
	fs.IntVar(&l.concurrency, "concurrency", 4, "calls under way at once")
	fs.Float64Var(&l.rate, "rate", 0, "calls a second; 0 is as fast as the answers come")
	fs.DurationVar(&l.timeout, "timeout", 2*time.Second, "how long a call may take")
	require(fs, "concurrency", "at least 1", func() bool { return l.concurrency >= 1 })
	require(fs, "rate", "0 or more", func() bool { return l.rate >= 0 })
	require(fs, "timeout", "more than 0", func() bool { return l.timeout > 0 })
	DeclareEvidence(fs, &l.evidence)
}

func (l *loadFlags) pace(progress func(done, total int)) traffic.Pace {
	return traffic.Pace{Concurrency: l.concurrency, Rate: l.rate, Timeout: l.timeout, Progress: progress}
}

// decider is the baseline of the executor that the states are for.
type decider func(*model.Artifact) (traffic.Baseline, error)

// released is the decider of an executor that is started with the heuristic of the model.
func released(a *model.Artifact) (traffic.Baseline, error) { return traffic.Heuristic(a), nil }

// decidesAt is the decider of an executor that runs: it names its baseline, which --models must have.
func (l *loadFlags) decidesAt(ctx context.Context, c Console, at endpoint) decider {
	return func(a *model.Artifact) (b traffic.Baseline, err error) {
		ctx, cancel := context.WithTimeout(ctx, baselineTimeout)
		defer cancel()
		err = at.dial(func(conn *grpc.ClientConn) error {
			executor, err := executorClient(conn).Counters(ctx)
			if err == nil {
				b, err = traffic.FindBaseline(model.OpenRegistry(l.models), a, executor.Baseline)
			}
			return err
		})
		switch {
		case err == nil && b.Scorer == nil:
			c.Say("baseline  %s, digest %.12s, is not in %s: the baseline's answers cannot be checked", b.Version, b.Digest, l.models)
		case err == nil && b.Model != traffic.Heuristic(a).Model:
			c.Say("baseline  %s, digest %.12s: its answers are compared with that model in %s", b.Version, b.Digest, l.models)
		}
		return b, err
	}
}

// baselineTimeout is how long an executor may take to say what it decides by.
const baselineTimeout = 5 * time.Second

// states reads the data and the model, and makes the states that the model has not been trained on; without data of its
// own, the whole of the simulated market.
func (l *loadFlags) states(c Console, decides decider) (*experiment.Data, *model.Artifact, []traffic.State, error) {
	a, err := model.OpenRegistry(l.models).Load(l.model)
	if err != nil {
		return nil, nil, nil, WithHint(err, "greenlight train makes models; --models names their folder")
	}
	baseline, err := decides(a)
	if err != nil {
		return nil, nil, nil, err
	}
	data, err := l.data.Load(c)
	if err != nil {
		return nil, nil, nil, err
	}
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		return nil, nil, nil, err
	}
	var minutes []int
	for i := range frame.Len() {
		if data.Digest() != a.Manifest.Training.DataDigest || !time.UnixMilli(frame.End(i)).Before(a.Manifest.Training.End) {
			minutes = append(minutes, i)
		}
	}
	states, err := traffic.StatesFor(frame, data.Symbol, minutes, a, baseline, data.Source())
	if err == nil && len(states) == 0 {
		err = fmt.Errorf("%s has no minute in which the inputs of %s are defined: features need a day of warm-up", data.Name, a.Manifest.Version)
	}
	return data, a, states, err
}

// smoke sends varied states to ml-engine and writes smoke_1k.json.
func smoke(ctx context.Context, c Console, store *evidence.Store, at endpoint, data *experiment.Data, a *model.Artifact, states []traffic.State, pace traffic.Pace) (*traffic.SmokeResult, error) {
	var r *traffic.SmokeResult
	err := at.dial(func(conn *grpc.ClientConn) (err error) {
		r, err = traffic.Smoke(ctx, mlenginev1.NewScoringServiceClient(conn), a, states, pace)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := store.WriteJSON("smoke_1k.json", loadHeader(traffic.SmokeSchema, data, a), r); err != nil {
		return nil, err
	}
	c.Say("smoke     %s, %.1f %% right, %s, p50 %.2f ms, p95 %.2f ms, p99 %.2f ms: %s",
		text.Count(r.Total, "prediction"), 100*r.SuccessRate, text.Count(r.Distinct, "distinct score"), r.Latency.P50, r.Latency.P95, r.Latency.P99, r.SLO.Verdict())
	c.sayErrors(r.Errors, r.Examples)
	return r, nil
}

// shadowLoad sends states to the executor, waits for their shadows, and writes the evidence under the name.
func shadowLoad(ctx context.Context, c Console, store *evidence.Store, stage, file string, at endpoint, data *experiment.Data, a *model.Artifact, states []traffic.State, pace traffic.Pace) (*traffic.ShadowResult, error) {
	var r *traffic.ShadowResult
	err := at.dial(func(conn *grpc.ClientConn) (err error) {
		r, err = traffic.Shadow(ctx, executorClient(conn), a, states, pace)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := store.WriteJSON(file, loadHeader(traffic.ShadowSchema, data, a), r); err != nil {
		return nil, err
	}
	c.Say("%-9s %s, match rate %.1f %% of %s, %s, shadow p95 %.2f ms: %s",
		stage, text.Count(r.Total, "decision"), 100*r.MatchRate, text.Count(r.Comparisons, "comparison"), text.Count(r.ShadowErrors, "shadow error"), r.ShadowLatency.P95, r.SLO.Verdict())
	c.sayErrors(r.Errors, r.Examples)
	return r, nil
}

func executorClient(conn *grpc.ClientConn) fleet.Executor {
	return fleet.NewExecutor(conn.Target(), conn)
}

// sayErrors says how many calls failed, and the first failure of each kind with what to do.
func (c Console) sayErrors(counts map[string]int, first map[string]error) {
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		c.Say("          %s failed: %v", text.Count(counts[code], "call"), fleet.Plain(first[code]))
		if hint := fleet.Hint(first[code]); hint != "" {
			c.Say("          hint: %s", hint)
		}
	}
}

func loadHeader(schema string, data *experiment.Data, a *model.Artifact) evidence.Header {
	return evidence.Header{
		Schema: schema, Source: data.Source(), Inputs: data.Inputs(),
		Model: &evidence.Model{Version: a.Manifest.Version, Digest: a.Digest()}, Git: Revision(),
	}
}

// Varied picks n states evenly from the period and shuffles them, from a fixed seed, so that neighbours in time are not
// neighbours on the wire.
func Varied(states []traffic.State, n int) []traffic.State {
	picked := traffic.Spread(states, n)
	rand.New(rand.NewPCG(DefaultSeed, uint64(n))).Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	return picked
}

func smokeCommand(c Console) *cobra.Command {
	var l loadFlags
	var at endpoint
	var n int
	cmd := &cobra.Command{
		Use: "smoke", Short: "Send 1,000 varied predictions to ml-engine and check every answer",
		Long: `Smoke sends varied market states to a running ml-engine, by name and as vectors in turn, and compares every answer,
to the last bit, with what the same model computes in process. It writes smoke_1k.json and exits 3 when an SLO is missed.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := at.open(); err != nil {
				return err
			}
			return l.withStates(c, released, func(data *experiment.Data, a *model.Artifact, states []traffic.State, store *evidence.Store) error {
				r, err := smoke(cmd.Context(), c, store, at, data, a, Varied(states, n), l.pace(c.Progress("smoke")))
				if err != nil {
					return err
				}
				return c.Verdict(r.SLO)
			})
		},
	}
	l.declare(cmd.Flags())
	at.declare(cmd.Flags(), c, "engine", "127.0.0.1:4010", "gRPC address of ml-engine")
	cmd.Flags().IntVar(&n, "n", 1000, "how many predictions")
	require(cmd.Flags(), "n", "at least 1", func() bool { return n >= 1 })
	return cmd
}

func shadowSmokeCommand(c Console) *cobra.Command {
	var l loadFlags
	var at endpoint
	var n int
	cmd := &cobra.Command{
		Use: "shadow-smoke", Short: "Send 1,000 varied decisions to executor and check baseline and shadow",
		Long: `Shadow-smoke sends varied market states to a running executor and waits for their shadows. Every baseline score and
every shadow score is compared, to the last bit, with what is computed in process; outcomes must add up to requests. The
executor names its baseline, which is looked for in --models: answers of one that is not there cannot be checked, which is
no PASS. It writes shadow_smoke_1k.json and exits 3 when an SLO is missed.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.withStates(c, l.decidesAt(cmd.Context(), c, at), func(data *experiment.Data, a *model.Artifact, states []traffic.State, store *evidence.Store) error {
				r, err := shadowLoad(cmd.Context(), c, store, "shadow", "shadow_smoke_1k.json", at, data, a, Varied(states, n), l.pace(c.Progress("shadow smoke")))
				if err != nil {
					return err
				}
				return c.Verdict(r.SLO)
			})
		},
	}
	l.declare(cmd.Flags())
	at.declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	cmd.Flags().IntVar(&n, "n", 1000, "how many decisions")
	require(cmd.Flags(), "n", "at least 1", func() bool { return n >= 1 })
	return cmd
}

// withStates loads what is to be sent, opens the evidence folder for fn, and closes it.
func (l *loadFlags) withStates(c Console, decides decider, fn func(*experiment.Data, *model.Artifact, []traffic.State, *evidence.Store) error) error {
	data, a, states, err := l.states(c, decides)
	if err != nil {
		return err
	}
	store, err := evidence.Open(l.evidence, evidence.Options{})
	if err != nil {
		return err
	}
	return errors.Join(fn(data, a, states, store), store.Close())
}
