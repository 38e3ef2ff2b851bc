package cli

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
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
	console.Require(fs, "concurrency", "at least 1", func() bool { return l.concurrency >= 1 })
	console.Require(fs, "rate", "0 or more", func() bool { return l.rate >= 0 })
	console.Require(fs, "timeout", "more than 0", func() bool { return l.timeout > 0 })
	DeclareEvidence(fs, &l.evidence)
}

// declareCount declares the number of calls, what.
func declareCount(fs *pflag.FlagSet, n *int, what string) {
	fs.IntVar(n, "n", 1000, "how many "+what)
	console.Require(fs, "n", "at least 1", func() bool { return *n >= 1 })
}

func (l *loadFlags) pace(progress func(done, total int)) traffic.Pace {
	return traffic.Pace{Concurrency: l.concurrency, Rate: l.rate, Timeout: l.timeout, Progress: progress}
}

// decider returns the baseline of the executor that gets the states.
type decider func(*model.Artifact) (traffic.Baseline, error)

// released is the decider of an executor that is started with the heuristic of the model.
func released(a *model.Artifact) (traffic.Baseline, error) { return traffic.Heuristic(a), nil }

// baselineTimeout is how long an executor may take to name its baseline.
const baselineTimeout = 5 * time.Second

// decidesAt is the decider of a running executor. It names its baseline, which --models must have.
func (l *loadFlags) decidesAt(ctx context.Context, c console.Console, at endpoint) decider {
	return func(a *model.Artifact) (b traffic.Baseline, err error) {
		ctx, cancel := context.WithTimeout(ctx, baselineTimeout)
		defer cancel()
		err = at.dial(func(conn *grpc.ClientConn) error {
			named, err := traffic.NewExecutor(conn).Baseline(ctx)
			if err == nil {
				b, err = traffic.FindBaseline(model.OpenRegistry(l.models), a, named)
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

// states reads the data and the model, and returns the states that the model was not trained on.
func (l *loadFlags) states(c console.Console, decides decider) (*rehearsal.Trial, []traffic.State, error) {
	a, err := model.OpenRegistry(l.models).Load(l.model)
	if err != nil {
		return nil, nil, console.WithHint(err, "greenlight train makes models; --models names their folder")
	}
	baseline, err := decides(a)
	if err != nil {
		return nil, nil, err
	}
	data, err := l.data.Load(c)
	if err != nil {
		return nil, nil, err
	}
	t := &rehearsal.Trial{Data: data, Artifact: a, Git: console.Revision()}
	states, err := t.Unseen(baseline)
	return t, states, err
}

func saySmoke(c console.Console, r *traffic.SmokeResult) {
	c.Say("smoke     %s, %.1f %% right, %s, p50 %.2f ms, p95 %.2f ms, p99 %.2f ms: %s",
		text.Count(r.Total, "prediction"), 100*r.SuccessRate, text.Count(r.Distinct, "distinct score"), r.Latency.P50, r.Latency.P95, r.Latency.P99, r.SLO.Verdict())
	sayErrors(c, r.Errors, r.Examples)
}

// sayShadow prints the result of a stage.
func sayShadow(c console.Console, stage string, r *traffic.ShadowResult) {
	c.Say("%-9s %s, match rate %.1f %% of %s, %s, shadow p95 %.2f ms: %s",
		stage, text.Count(r.Total, "decision"), 100*r.MatchRate, text.Count(r.Comparisons, "comparison"), text.Count(r.ShadowErrors, "shadow error"), r.ShadowLatency.P95, r.SLO.Verdict())
	sayErrors(c, r.Errors, r.Examples)
}

// sayErrors prints how many calls failed, and the first failure of each kind with what to do.
func sayErrors(c console.Console, counts map[string]int, first map[string]error) {
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		c.Say("          %s failed: %v", text.Count(counts[code], "call"), fleet.Plain(first[code]))
		if hint := fleet.Hint(first[code]); hint != "" {
			c.Say("          hint: %s", hint)
		}
	}
}

// send reads the states, and hands them to fn with the evidence and a connection to the service.
func (l *loadFlags) send(c console.Console, at endpoint, decides decider, fn func(*rehearsal.Trial, []traffic.State, *grpc.ClientConn, *evidence.Store) error) error {
	if err := at.open(); err != nil {
		return err
	}
	t, states, err := l.states(c, decides)
	if err != nil {
		return err
	}
	return withEvidence(l.evidence, func(store *evidence.Store) error {
		return at.dial(func(conn *grpc.ClientConn) error { return fn(t, states, conn, store) })
	})
}
