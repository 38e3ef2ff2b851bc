package faults

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// MaxDistance is how far the model's score may be from the baseline behind the gate of a stage.
const MaxDistance = 0.05

const (
	// waitBudget is how long a decision waits for the model.
	waitBudget = 5 * time.Millisecond
	// generous is the allowance above the wait budget, as a multiple of the baseline's slowest answer of the run: with equal
	// numbers of answers, the slowest of all is on this side half of the time.
	generous = 2
)

// guard is the client's view of an executor's gate, and the decisions that it has seen.
type guard struct {
	model  string    // its digest
	scores []float64 // those of the model, in the order of the requests
	// decisions counts the client's decisions by reason, distant those whose score is too far from the baseline.
	decisions [64]atomic.Uint64
	distant   atomic.Int64
	// lies is set while a fault changes the answers of ml-engine, so that the model's score is unknown.
	lies atomic.Bool
}

// newGuard returns the gate for the states, whose model must be the model of the options.
func newGuard(o StageOptions) *guard {
	g := &guard{model: o.Artifact.Digest()}
	for _, s := range o.States {
		g.scores = append(g.scores, o.Artifact.Scorer.Score(s.Vector))
	}
	return g
}

// OpenGate lets the model decide every request, or renews the gate. It does nothing for an executor without a gate.
func (e *Executor) OpenGate(ctx context.Context) error {
	if e.guard == nil {
		return nil
	}
	_, err := e.SetRollout(ctx, &executorv1.SetRolloutRequest{
		Percent: 100, Mode: executorv1.RolloutMode_ROLLOUT_MODE_GATED, Lease: durationpb.New(time.Hour), Holder: "lab", Reason: "fault matrix",
		Plan: wire.Plan(outcome.Plan{
			DisagreementCap: MaxDistance, Margin: MaxDistance / 10, Alpha: outcome.DefaultAlpha, LabelSource: outcome.Reported, HorizonMS: (15 * time.Minute).Milliseconds(),
		}),
		Gate: &executorv1.Gate{
			ModelDigest: e.guard.model, AllSymbols: true, WaitBudget: durationpb.New(waitBudget), ObservePercent: proto.Float64(100),
			MinScore: proto.Float64(0), MaxScore: proto.Float64(1), MaxChangedPercent: proto.Float64(100),
		},
	})
	return err
}

// check counts the k-th decision of an executor with a gate. It returns the expected score and digest, and reports whether the
// rest of the answer is right.
func (g *guard) check(k int, baseline float64, resp *executorv1.PredictResponse, digest string) (score float64, of string, ok bool) {
	d := resp.GetGate()
	reason, byModel := d.GetFallbackReason(), d.GetDecidedBy() == executorv1.Decider_DECIDER_MODEL
	g.decisions[int(reason)%len(g.decisions)].Add(1)
	if !(math.Abs(resp.GetScore()-baseline) <= MaxDistance) {
		g.distant.Add(1)
	}
	ok = d != nil && byModel == (reason == executorv1.FallbackReason_FALLBACK_REASON_UNSPECIFIED) &&
		math.Float64bits(d.GetBaselineScore()) == math.Float64bits(baseline) && d.GetBaselineDigest() == digest && d.GetModelDigest() == g.model
	switch {
	case !byModel:
		return baseline, digest, ok
	case g.lies.Load():
		return resp.GetScore(), g.model, ok
	default:
		return g.scores[k], g.model, ok
	}
}

// decides reports whether the model has decided more requests than before. Without a gate it need not.
func (g *guard) decides(before uint64) bool { return g == nil || g.byModel() > before }

// byModel returns how many decisions by the model the client has seen.
func (g *guard) byModel() uint64 {
	if g == nil {
		return 0
	}
	return g.decisions[decide.None].Load()
}

// read returns the decisions that the client has seen.
func (g *guard) read() fleet.Decisions {
	d := fleet.Decisions{fleet.ByModel: g.byModel()}
	for _, r := range decide.Reasons() {
		d[r.String()] = g.decisions[r].Load()
	}
	return d
}

// gateMark is a snapshot of the decisions behind a gate: as counted by the executor, and as seen by the client.
type gateMark struct {
	counted, seen fleet.Decisions
	distant       int64
}

// gateMark returns an error if the gate is shut, because then nothing can be measured.
func (e *Executor) gateMark(ctx context.Context) (m gateMark, err error) {
	if e.guard == nil {
		return m, nil
	}
	got, err := e.Rollout(ctx)
	if err != nil {
		return m, err
	}
	if !got.GetGate().GetOpen() {
		return m, fmt.Errorf("%s: the gate is shut: %v", e.Name, got.GetGate().GetLatches())
	}
	return gateMark{fleet.DecisionsOf(got.GetGate()), e.guard.read(), e.guard.distant.Load()}, nil
}

// Gate holds the decisions of an executor behind its gate during a fault.
type Gate struct {
	// Decisions counts the executor's decisions, Seen those that the client has seen, which excludes calls that await a
	// shadow.
	Decisions fleet.Decisions `json:"decisions"`
	Seen      fleet.Decisions `json:"seen"`
	// Distant counts decisions further from the baseline than the cap.
	Distant int64 `json:"distant"`
	// Unaccounted counts requests without exactly one decider, and decisions that executor and client count differently.
	Unaccounted int64 `json:"unaccounted"`
	// Late counts decisions of the slices that took longer than BoundMS: the wait budget plus twice the slowest answer of the
	// baseline alone in all slices of the run, or in the slices so far if it has not ended. SlowestMS is the slowest decision.
	Late      int64   `json:"late"`
	BoundMS   float64 `json:"bound_ms"`
	SlowestMS float64 `json:"slowest_ms"`

	slices *latencies
}

// between adds the decisions between two marks. requests is the executor's count, lost counts the client's requests without an
// answer.
func (g *Gate) between(before, after gateMark, requests uint64, lost int64) {
	g.Decisions, g.Seen = after.counted.Since(before.counted), after.seen.Since(before.seen)
	g.Distant = after.distant - before.distant
	sum := int64(0)
	for reason, n := range g.Decisions {
		sum += int64(n)
		if reason != decide.NotSelected.String() && lost == 0 {
			g.Unaccounted += distance(int64(n), int64(g.Seen[reason]))
		}
	}
	g.Unaccounted += distance(sum, int64(requests))
}

func distance(a, b int64) int64 { return max(a-b, b-a) }

// judge counts the decisions that took too long. alone is the slowest answer of the baseline alone.
func (g *Gate) judge(alone time.Duration) {
	if g == nil || g.slices == nil { // measured by an earlier run
		return
	}
	g.Late = 0
	bound := waitBudget + generous*alone
	g.BoundMS = float64(bound) / float64(time.Millisecond)
	for _, b := range g.slices.bars {
		g.SlowestMS = max(g.SlowestMS, float64(b.value)/float64(time.Millisecond))
		if b.value > int64(bound) {
			g.Late += b.count
		}
	}
}

// missed describes the targets that it misses.
func (g *Gate) missed() (missed Misses) {
	if g == nil {
		return nil
	}
	add := missed.Add
	add(g.Distant > 0, "%d decisions further from the baseline than the cap", g.Distant)
	add(g.Unaccounted != 0, "%d decisions unaccounted for", g.Unaccounted)
	add(g.Late > 0, "%d decisions later than %.1f ms", g.Late, g.BoundMS)
	add(g.Decisions[fleet.ByModel] == 0, "the model decided nothing")
	return missed
}

// gateNotes returns the sentences of the report about the gate.
func (res *Result) gateNotes() []string {
	var sum fleet.Decisions
	var distant, late, unaccounted int64
	var slowest []string
	for _, r := range res.Rows {
		if r.Gate == nil {
			continue
		}
		sum = sum.Plus(r.Gate.Decisions)
		distant, late, unaccounted = distant+r.Gate.Distant, late+r.Gate.Late, unaccounted+r.Gate.Unaccounted
		slowest = append(slowest, fmt.Sprintf("%s %.1f of %.1f", r.Fault, r.Gate.SlowestMS, r.Gate.BoundMS))
	}
	if sum == nil {
		return nil
	}
	return []string{
		fmt.Sprintf("The executor with a shadow has a gate. Its model decides within %v of the baseline, and every request waits for it at most %v. Decisions: %s. %d are further from the baseline than that, %d later than the bound, %d unaccounted for. The model's are bit for bit its scores, the others the baseline's.",
			MaxDistance, waitBudget, sum, distant, late, unaccounted),
		fmt.Sprintf("The p99 without a shadow has the wait budget added. The bound of a decision is the wait budget and %d times the slowest answer of the baseline alone in all slices. Slowest decision and bound, in ms: %s.",
			generous, strings.Join(slowest, "; ")),
	}
}
