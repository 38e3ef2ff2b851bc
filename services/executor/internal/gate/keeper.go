// Package gate decides whether the model's score becomes the decision.
//
// A rollout of mode GATED sets a gate. [github.com/greenlight-ml/greenlight/pkg/decide] chooses between the two scores from
// the state that this package keeps: the latches, which switch the gate off until a person clears them, and how many decisions
// of the last hour the model has changed. Both survive restarts.
//
// Only this package and package decide see a model's score and make a decision.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Options configures a keeper.
type Options struct {
	// Allowed is set if models may decide at all. It requires Dir.
	Allowed bool
	// Dir is the state folder, which this process owns. If empty, everything is only in memory.
	Dir string
	// Timeout is the shadow timeout: no request waits longer for the model.
	Timeout time.Duration
	Logger  *slog.Logger
}

// Rollout holds the gate that is set.
type Rollout interface {
	// Gate returns the gate at that time. It must not block.
	Gate(at time.Time) Standing
	// Demote changes a gate in force to OBSERVE_ONLY. It must not block.
	Demote(by, from, reason string)
}

// Standing is the gate of the rollout. The zero value is no gate.
type Standing struct {
	Terms    *Terms
	Revision uint64
	// Shares selects the requests that the model may decide.
	Shares *shadow.Sampler
	Phase  Phase
}

// Phase is the state of a gate.
type Phase uint8

// The phases.
const (
	// InForce means that its lease is in force.
	InForce Phase = iota
	// Lapsed means that its lease has lapsed, or that executor has restarted and the holder has not renewed it.
	Lapsed
	// Demoted means that a latch has made it OBSERVE_ONLY.
	Demoted
)

// selects reports whether the model may decide the request.
func (s *Standing) selects(id, symbol string) bool {
	return s.Terms != nil && s.Phase == InForce && s.Terms.allows(symbol) && s.Shares.Sampled(id)
}

// Keeper keeps the state of the gate. It is safe for concurrent use.
type Keeper struct {
	opts    Options
	metrics *metrics
	budget  budget
	latched atomic.Pointer[latches]
	mu      sync.Mutex // guards changes of latched and sets; it is never held during disk access
	// sets counts how often a latch was set, even if no file can be written; nil without a folder.
	sets *durable.Counter
	// rollout and active are set before the first request.
	rollout Rollout
	active  func() shadow.Active
	// onKill is nil until [Keeper.OnKill]. The saver may call it before the first request.
	onKill atomic.Pointer[func()]
	// kills reports whether the gate was killed since Open, present whether the kill file existed when it was last read.
	kills, present atomic.Bool

	saver *durable.Saver
	// written is the content of the file. The saver guards it.
	written written
}

// Open continues with the latches and counts in the folder. An unreadable file is set aside and kills the gate, and so does a file
// that has gone missing. That kill is on disk, or Open fails. The caller must call Stop.
func Open(opts Options) (*Keeper, error) {
	k := &Keeper{opts: opts, metrics: newMetrics(), active: func() shadow.Active { return shadow.Active{} }}
	k.latched.Store(&latches{})
	k.budget.restore(time.Now(), nil)
	if opts.Dir == "" {
		if opts.Allowed {
			return nil, errors.New("a gate needs a state folder")
		}
		return k, nil
	}
	if err := k.load(time.Now()); err != nil {
		return nil, err
	}
	k.saver = durable.StartSaver(durable.SaverOptions{
		Save: k.flush, Period: writePeriod, Subject: "the state of the gate is", Risk: "a restart may forget a latch or changes of the last hour", Logger: opts.Logger,
	})
	_ = k.saver.Save(writeWait) // it also reads the kill file; an error is logged and counted
	return k, nil
}

// Stop writes unwritten state.
func (k *Keeper) Stop() {
	if k.saver == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeWait)
	defer cancel()
	if k.saver.Stop(ctx) == nil { // otherwise a write may still be running; it is logged and counted
		_ = k.closeCounters() // they unmap files
	}
}

// Allowed reports whether models may decide at all.
func (k *Keeper) Allowed() bool { return k.opts.Allowed }

// Timeout is the longest wait budget.
func (k *Keeper) Timeout() time.Duration { return k.opts.Timeout }

// Govern makes the keeper follow the rollout, and demotes its gate if a latch is set. Call it before the first request.
func (k *Keeper) Govern(r Rollout) {
	k.rollout = r
	l := k.latched.Load()
	for _, which := range l.list() {
		k.demote(l[which])
	}
}

// Ask sets how the keeper asks for ml-engine's model. Call it before the first request.
func (k *Keeper) Ask(active func() shadow.Active) { k.active = active }

// OnKill sets a function to call whenever the gate is killed, even if it already was, and whenever the kill file appears. It calls
// the function now if that has happened since Open or the file exists. The function must not block.
func (k *Keeper) OnKill(call func()) {
	k.CheckKillFile()
	k.onKill.Store(&call)
	if k.kills.Load() || k.present.Load() {
		call()
	}
}

// tellKill calls the function of [Keeper.OnKill].
func (k *Keeper) tellKill() {
	k.kills.Store(true) // before reading the pointer: otherwise OnKill calls the function
	if call := k.onKill.Load(); call != nil {
		(*call)()
	}
}

// Trouble describes a failing folder. It is empty if the state is written, or if there is no folder.
func (k *Keeper) Trouble() string { return k.saver.Trouble() }

// Refused returns an error if no gate may be in force: because models are not allowed to decide, or a latch is set.
func (k *Keeper) Refused() error {
	if !k.opts.Allowed {
		return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_NOT_ALLOWED,
			"executor was started without --allow-gated: no model can decide")
	}
	if l := k.latched.Load(); l.any() {
		return rpc.ExecutorError(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_LATCHED,
			"the gate is shut: %s; find out why, then clear it with ClearGateLatches and start the gate again", l)
	}
	return nil
}

// Unfit returns an error unless ml-engine serves the model of the terms and the range of its features is known.
func (k *Keeper) Unfit(t *Terms) error {
	const reason = executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_GATE_MODEL
	switch m := k.active(); {
	case m.Digest == "":
		return rpc.ExecutorError(codes.FailedPrecondition, reason, "ml-engine has not been reached, so its model is not known: wait until /readyz names it")
	case m.Digest != t.Model:
		return rpc.ExecutorError(codes.FailedPrecondition, reason, "ml-engine has the model %s with digest %s, not %s: activate the model of the gate, or start the gate for the active one", m.Version, m.Digest, t.Model)
	case m.Schema == nil:
		return rpc.ExecutorError(codes.FailedPrecondition, reason, "the schema of the model %s cannot be used here: see the log of executor", m.Version)
	case m.Domain == nil:
		return rpc.ExecutorError(codes.FailedPrecondition, reason,
			"the reference profile of the model %s lacks the 0.05 and 99.95 %% quantiles of its features: train or import it under a new version", m.Version)
	}
	return nil
}

// CheckKillFile reads the kill file now. It is also read before the model decides, and every second.
func (k *Keeper) CheckKillFile() {
	why := k.killFile()
	appeared := why != "" && !k.present.Load()
	k.present.Store(why != "")
	switch {
	case why != "" && k.latched.Load()[killed] == nil:
		k.shut(killed, byFile, "", why)
	case appeared: // the latch is set already
		k.tellKill()
	}
}

// killFile describes the kill file; empty if there is none.
func (k *Keeper) killFile() string {
	if k.opts.Dir == "" {
		return ""
	}
	switch _, err := os.Lstat(k.killPath()); {
	case err == nil:
		return k.killPath() + " exists"
	case errors.Is(err, fs.ErrNotExist):
		return ""
	default: // the file may exist
		return fmt.Sprintf("%s cannot be read: %v", k.killPath(), err)
	}
}

func (k *Keeper) killPath() string { return filepath.Join(k.opts.Dir, killName) }

// standing returns the gate of the rollout while models may decide.
func (k *Keeper) standing(at time.Time) Standing {
	if k.rollout == nil || !k.opts.Allowed {
		return Standing{}
	}
	s := k.rollout.Gate(at)
	if s.Phase == Demoted && !k.latched.Load().any() { // a person has cleared its latch, so the gate is gone
		return Standing{}
	}
	return s
}

// state returns the part of a decision's input that does not depend on the request.
func (k *Keeper) state(s *Standing) decide.State {
	if s.Terms == nil {
		return decide.State{}
	}
	l := k.latched.Load()
	return decide.State{
		Gated: true, Limits: s.Terms.Limits,
		// A demotion ends the lease. While its latch is set, the latch is the reason.
		LeaseLapsed: s.Phase == Lapsed || s.Phase == Demoted && !l.any(),
		Killed:      l[killed] != nil, QualityAlarm: l[quality] != nil, DriftAlarm: l[drift] != nil, BudgetSpent: l[spent] != nil,
	}
}

// open reports whether the model may decide.
func (k *Keeper) open(s *Standing) bool {
	return decide.Refusal(k.state(s), decide.Request{Selected: true, Model: k.modelOf(s)}) == decide.None
}

func (k *Keeper) modelOf(s *Standing) string {
	if s.Terms == nil {
		return ""
	}
	return s.Terms.Model
}

// Status returns the state of the gate.
func (k *Keeper) Status() *executorv1.GateStatus {
	k.CheckKillFile()
	at := time.Now()
	s := k.standing(at)
	sum := k.budget.now(at)
	status := &executorv1.GateStatus{
		Allowed: k.opts.Allowed, Open: k.open(&s), Latches: k.latched.Load().proto(),
		HourRequests: sum.Requests, HourChanged: sum.Changed, HourChangedLimit: k.limit(&s, sum.Requests), ModelDigest: k.active().Digest,
	}
	for r := range k.metrics.decisions {
		status.Decisions = append(status.Decisions, &executorv1.GateDecisionCount{
			DecidedBy: decider(decide.Reason(r)), FallbackReason: executorv1.FallbackReason(r), Count: k.metrics.decisions[r].Load(),
		})
	}
	return status
}

// limit returns how many of the hour's requests the model may change; 0 without a gate.
func (k *Keeper) limit(s *Standing, requests uint64) uint64 {
	if s.Terms == nil {
		return 0
	}
	return limit(requests, s.Terms.MaxChanged)
}

func decider(r decide.Reason) executorv1.Decider {
	if r == decide.None {
		return executorv1.Decider_DECIDER_MODEL
	}
	return executorv1.Decider_DECIDER_BASELINE
}
