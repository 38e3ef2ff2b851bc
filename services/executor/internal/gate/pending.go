package gate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Case is a request to decide on.
type Case struct {
	ID, Symbol string
	Arrival    time.Time
	// Baseline is the baseline's score.
	Baseline float64
	// Age is the age of the features, 0 if unknown.
	Age time.Duration
	// State is the market state. Fault is why it cannot be scored.
	State shadow.State
	Fault error
	// Compares is set if the request only compares, so that the model never decides it.
	Compares bool
	// Deadline is the caller's; zero if there is none.
	Deadline time.Time
}

// Pending is a request that the gate decides on or has decided. It implements [shadow.Gated].
type Pending struct {
	keeper     *Keeper
	id, symbol string
	request    decide.Request
	revision   uint64
	arrival    time.Time
	// limit is how long it may wait. done is closed when it is decided; nil if it was decided immediately.
	limit time.Time
	done  chan struct{}

	claimed atomic.Bool
	// verdict is written after a claim, before done is closed.
	verdict verdict
}

// verdict is a decision and the model behind it.
type verdict struct {
	decide.Decision

	standing Standing
	// version is the version of the model that decided.
	version string
}

// Pass counts a request that the baseline decides because models are not allowed to.
func (k *Keeper) Pass() { k.metrics.count(decide.Off) }

// Begin counts a request. If a gate is set, it returns the request; otherwise nil, and the baseline decides. A request that waits
// for the model must go to [shadow.Dispatcher.Advise], and then to Wait.
func (k *Keeper) Begin(ctx context.Context, c *Case) *Pending {
	k.budget.request(c.Arrival)
	s := k.standing(c.Arrival)
	if s.Terms == nil {
		k.metrics.count(decide.Off)
		return nil
	}
	p := &Pending{keeper: k, id: c.ID, symbol: c.Symbol, arrival: c.Arrival, revision: s.Revision}
	model := k.active()
	p.request = decide.Request{
		Baseline: c.Baseline, Selected: !c.Compares && s.selects(c.ID, c.Symbol), Model: model.Digest, Age: c.Age,
	}
	if p.request.Selected && c.Fault == nil {
		p.request.OutOfDomain = outside(model, c.State)
	}
	state := k.state(&s)
	if decide.Refusal(state, p.request) == decide.None {
		p.limit = c.Arrival.Add(min(s.Terms.Wait, k.opts.Timeout))
		if t, ok := ctx.Deadline(); ok && t.Add(-shadow.ReplyReserve).Before(p.limit) {
			p.limit = t.Add(-shadow.ReplyReserve)
		}
		if !c.Deadline.IsZero() && c.Deadline.Add(-shadow.ReplyReserve).Before(p.limit) {
			p.limit = c.Deadline.Add(-shadow.ReplyReserve)
		}
		if time.Now().Before(p.limit) {
			p.done = make(chan struct{})
			p.verdict = verdict{Decision: decide.Decision{Score: c.Baseline, Reason: decide.Internal}, standing: s} // after a panic
			return p
		}
	}
	p.claimed.Store(true)
	p.verdict = verdict{Decision: decide.Decide(state, p.request, decide.Advice{Failure: decide.Deadline}), standing: s}
	k.metrics.count(p.verdict.Reason)
	return p
}

// outside reports whether a feature of the state is outside the model's range. It is false for a state that the model cannot
// score, whose shadow will be rejected.
func outside(m shadow.Active, s shadow.State) bool {
	if m.Schema == nil || len(m.Domain) != m.Schema.Len() {
		return true // no range is known
	}
	values, ok := s.Project(m.Schema)
	return ok && decide.Outside(values, m.Domain)
}

// Waits reports whether the request is waiting for the model.
func (p *Pending) Waits() bool { return p.done != nil }

// Wait waits until the request is decided, at most for the wait budget and until [shadow.ReplyReserve] before the caller's
// deadline.
func (p *Pending) Wait(ctx context.Context) {
	if p.done == nil {
		return
	}
	timer := time.NewTimer(time.Until(p.limit))
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.decide(decide.Advice{Failure: decide.Deadline}, "")
	case <-ctx.Done():
		failure := decide.Canceled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			failure = decide.Deadline
		}
		p.decide(decide.Advice{Failure: failure}, "")
	}
	<-p.done
	p.keeper.metrics.wait.Observe(telemetry.Milliseconds(time.Since(p.arrival)))
}

// Advise implements [shadow.Gated]: the result decides the request, unless it is already decided.
func (p *Pending) Advise(r shadow.Result) {
	if p.claimed.Load() {
		return
	}
	a := decide.Advice{Failure: failureOf(r.Outcome)}
	if a.Failure == decide.None {
		a.Score, a.Model = r.Score, r.Digest
		p.keeper.CheckKillFile() // before the claim: a slow disk delays no decision, since Wait ends with the baseline's score
	}
	p.decide(a, r.Version)
}

// failures maps every outcome of a shadow without a score to its reason.
var failures = map[shadow.Outcome]decide.Reason{
	shadow.Match: decide.None, shadow.Mismatch: decide.None, shadow.Deadline: decide.Deadline, shadow.BreakerOpen: decide.BreakerOpen,
	shadow.Shed: decide.Shed, shadow.Unavailable: decide.Unavailable, shadow.InvalidScore: decide.InvalidScore,
	shadow.Rejected: decide.Rejected, shadow.Internal: decide.Internal, shadow.Canceled: decide.Canceled,
	// The rollout changed between reading the gate and sampling.
	shadow.NotSampled: decide.NotSelected,
}

func failureOf(o shadow.Outcome) decide.Reason {
	if r, known := failures[o]; known {
		return r
	}
	return decide.Internal
}

// decide decides, unless the request is already decided. It uses the gate's current state, which may have changed during the wait.
func (p *Pending) decide(a decide.Advice, version string) {
	if !p.claimed.CompareAndSwap(false, true) {
		return
	}
	answered := sync.OnceFunc(func() { close(p.done) })
	defer answered()
	k, now := p.keeper, time.Now()
	s := k.standing(now)
	request := p.request
	if s.Revision != p.revision {
		request.Selected = s.selects(p.id, p.symbol)
	}
	state := k.state(&s)
	d := decide.Decide(state, request, a)
	over := d.ByModel() && math.Abs(d.Score-request.Baseline) > decide.Changed && !k.budget.change(now, s.Terms.MaxChanged)
	if over {
		state.BudgetSpent = true
		d = decide.Decide(state, request, a)
	}
	p.verdict = verdict{Decision: d, standing: s}
	if d.ByModel() {
		p.verdict.version = version
	}
	k.metrics.count(d.Reason)
	var shut *latch
	if over {
		sum := k.budget.now(now)
		shut = k.set(spent, byExecutor, "", fmt.Sprintf("the model has changed %d of the %d requests of the last hour: it may change %d",
			sum.Changed, sum.Requests, limit(sum.Requests, s.Terms.MaxChanged)))
	}
	answered() // before the log is written
	if shut != nil {
		k.demote(shut)
	}
}

// Decision implements [shadow.Gated].
func (p *Pending) Decision() (d decide.Decision, revision uint64) {
	v := p.decided()
	return v.Decision, v.standing.Revision
}

// decided returns the verdict, which follows a claim immediately.
func (p *Pending) decided() *verdict {
	if p.done != nil {
		<-p.done
	}
	return &p.verdict
}

// Model returns the version and digest of the model if it decided; otherwise they are empty.
func (p *Pending) Model() (version, digest string) {
	v := p.decided()
	if !v.ByModel() {
		return "", ""
	}
	return v.version, v.standing.Terms.Model
}

// Proto returns the decision as a message; nil if the gate was removed meanwhile.
func (p *Pending) Proto(baselineDigest string) *executorv1.GateDecision {
	v := p.decided()
	if v.standing.Terms == nil {
		return nil
	}
	return &executorv1.GateDecision{
		DecidedBy: decider(v.Reason), FallbackReason: executorv1.FallbackReason(v.Reason), BaselineScore: p.request.Baseline,
		BaselineDigest: baselineDigest, ModelDigest: v.standing.Terms.Model, RolloutRevision: v.standing.Revision,
	}
}
