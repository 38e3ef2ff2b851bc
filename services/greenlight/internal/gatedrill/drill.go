// Package gatedrill tests every way to switch a gate off, on a pair of services that nobody else uses.
//
// The executor decides by its caller's score, so the drill can choose how far the model is from the baseline. Every answer is
// checked bit for bit: it is either the baseline's score or the model's, recomputed in this process.
package gatedrill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Options configure a drill. All fields except Other and Observe are required.
type Options struct {
	Services process.Services
	// Other is a registry entry with another model; empty if there is none.
	Other string
	// Dir is an empty folder for states and logs.
	Dir    string
	States []traffic.State
	// Observe is called after every exercise. It may be nil.
	Observe func(Exercise)
}

const (
	// distance is the default distance of the model from the baseline, change a distance that counts as changed, and
	// disagreementCap is D.
	distance, change, disagreementCap = 0.01, 0.2, 0.3
	// lease is the shortest lease, and signalLimit how long a signal may take.
	lease, signalLimit = time.Second, time.Second
	// after is the number of requests after each exercise.
	after = 20
	// openLimit bounds the wait for the model to decide.
	openLimit = 20 * time.Second
	caller    = "drill@1"
)

// drill is a running pair with its gate.
type drill struct {
	Options

	engine, executor *process.Process
	engines          fleet.Engine
	fleet.Executor

	digest string
	asked  int
	report *Report
}

// Run starts the pair, exercises each way to switch the gate off, and stops the pair.
func Run(ctx context.Context, o Options) (*Report, error) {
	d := &drill{Options: o, digest: o.Services.Artifact.Digest(), report: &Report{Exercises: []Exercise{}, Decisions: map[string]uint64{}}}
	d.inside()
	if len(d.States) == 0 {
		return nil, errors.New("no state is inside the range of the training data")
	}
	setup := rehearsal.Setup{
		Services: o.Services, Dir: o.Dir, ShadowTimeout: 2 * time.Second, EngineFlags: []string{"--insecure-control"},
		ExecutorFlags: []string{"--baseline", "caller=" + caller, "--allow-gated", "--state-dir", d.state()},
	}
	err := rehearsal.WithPair(ctx, setup, func(pair *rehearsal.Pair) error {
		d.engine, d.executor, d.engines, d.Executor = pair.EngineProcess, pair.ExecutorProcess, pair.Services.Engines[0], pair.Executor
		for _, s := range d.steps() {
			x, err := d.exercise(ctx, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			d.report.Exercises = append(d.report.Exercises, *x)
			if o.Observe != nil {
				o.Observe(*x)
			}
		}
		return d.count(ctx)
	})
	if err != nil {
		return nil, err
	}
	d.report.Judge()
	return d.report, nil
}

func (d *drill) state() string { return filepath.Join(d.Dir, "state") }

// inside returns the states that are inside the range of the training data.
func (d *drill) inside() {
	var domain []decide.Range
	for _, r := range d.Services.Artifact.Ranges() {
		domain = append(domain, decide.Range{Low: r.Low, High: r.High})
	}
	d.States = slices.DeleteFunc(slices.Clone(d.States), func(s traffic.State) bool {
		return len(s.Vector) != len(domain) || decide.Outside(s.Vector, domain)
	})
}

// step describes one exercise.
type step struct {
	name, what string
	// expected lists the reasons that the baseline then decides for.
	expected []decide.Reason
	latch    executorv1.GateLatch
	// act switches the gate off. undo reverts what it did, except the latch. Both may be nil. change turns a request into one
	// that the model may not decide. timed is how long act may take; 0 means that it takes effect with the next request.
	act, undo func(context.Context) error
	change    func(*executorv1.PredictRequest)
	timed     time.Duration
	// spend is set if the model changes decisions until the budget is spent.
	spend bool
}

func (d *drill) steps() []step {
	alarm := func(l executorv1.GateLatch) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := d.Rollouts.RaiseGateAlarm(ctx, &executorv1.RaiseGateAlarmRequest{Alarm: l, ModelDigest: d.digest, Reason: "drill"})
			return err
		}
	}
	kill := filepath.Join(d.state(), "gate.kill")
	all := []step{
		{name: "kill by call", what: "KillGate", expected: []decide.Reason{decide.Killed}, latch: executorv1.GateLatch_GATE_LATCH_KILLED, act: func(ctx context.Context) error {
			_, err := d.Rollouts.KillGate(ctx, &executorv1.KillGateRequest{Reason: "drill"})
			return err
		}},
		{
			name: "kill by file", what: "the file gate.kill in the state folder", expected: []decide.Reason{decide.Killed}, latch: executorv1.GateLatch_GATE_LATCH_KILLED,
			act:  func(context.Context) error { return os.WriteFile(kill, nil, 0o600) },
			undo: func(context.Context) error { return os.Remove(kill) },
		},
		{
			name: "kill by signal", what: "SIGUSR1", expected: []decide.Reason{decide.Killed}, latch: executorv1.GateLatch_GATE_LATCH_KILLED, timed: signalLimit,
			act: func(context.Context) error { return d.executor.Signal(syscall.SIGUSR1) },
		},
		{name: "lease lapsed", what: "nobody renews the lease of 1s", expected: []decide.Reason{decide.LeaseLapsed}, timed: lease},
		{name: "quality alarm", what: "RaiseGateAlarm", expected: []decide.Reason{decide.QualityAlarm}, latch: executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM, act: alarm(executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM)},
		{name: "drift alarm", what: "RaiseGateAlarm", expected: []decide.Reason{decide.DriftAlarm}, latch: executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM, act: alarm(executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM)},
		{name: "not selected", what: "a symbol that the gate does not list", expected: []decide.Reason{decide.NotSelected}, change: func(r *executorv1.PredictRequest) { r.Symbol = "OTHER" }},
		{name: "features stale", what: "a state three minutes old", expected: []decide.Reason{decide.FeaturesStale}, change: func(r *executorv1.PredictRequest) {
			r.EventTime = timestamppb.New(time.Now().Add(-3 * time.Minute))
		}},
		{name: "out of domain", what: "a feature beyond its range in the training data", expected: []decide.Reason{decide.OutOfDomain}, change: d.beyond},
		{name: "disagreement", what: "a baseline further away than D", expected: []decide.Reason{decide.Disagreement}, change: func(r *executorv1.PredictRequest) {
			r.BaselineScore = proto.Float64(away(r.GetBaselineScore(), 1.5*disagreementCap))
		}},
		{name: "budget spent", what: "the model changes as many requests as the budget allows", expected: []decide.Reason{decide.BudgetSpent}, latch: executorv1.GateLatch_GATE_LATCH_BUDGET_SPENT, spend: true},
	}
	if d.Other != "" {
		activate := func(entry string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := d.engines.Models.ActivateModel(ctx, &mlenginev1.ActivateModelRequest{Model: entry})
				return err
			}
		}
		m := d.Services.Artifact.Manifest
		all = append(all, step{
			name: "model changed", what: "ml-engine activates " + d.Other, expected: []decide.Reason{decide.ModelChanged, decide.Rejected},
			act: activate(d.Other), undo: activate(m.Name + "/" + m.Version),
		})
	}
	return append(all, step{
		name: "ml-engine dies", what: "ml-engine is killed", expected: []decide.Reason{decide.Unavailable, decide.BreakerOpen},
		act: func(context.Context) error { return d.engine.Kill() },
	})
}

// beyond moves a feature outside its range.
func (d *drill) beyond(r *executorv1.PredictRequest) {
	for _, f := range d.Services.Artifact.Ranges() {
		if f.High > f.Low { // "bias" is always 1
			r.Features[f.Name] = f.High + (f.High - f.Low)
			return
		}
	}
}

// away returns a score in [0,1] at the distance, at most 0.5, from the score.
func away(score, by float64) float64 {
	if score < 0.5 {
		return score + by
	}
	return score - by
}

// exercise opens the gate, waits until the model decides, runs the step, and counts who decides afterwards.
func (d *drill) exercise(ctx context.Context, s step) (*Exercise, error) {
	x := &Exercise{Name: s.name, What: s.what, Seen: map[string]uint64{}}
	for _, r := range s.expected {
		x.Expected = append(x.Expected, r.String())
	}
	opened, err := d.open(ctx, s)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if s.act != nil {
		if err := s.act(ctx); err != nil {
			return nil, err
		}
		if s.timed == 0 {
			start = time.Now()
		}
	} else if s.timed > 0 {
		start = opened
	}
	x.LimitMS = float64(s.timed) / float64(time.Millisecond)
	by := distance
	if s.spend {
		by = change
	}
	last := start // time of the last request that the model decided
	for n, limit := 0, time.Now().Add(s.timed+openLimit); n < after; {
		asked := time.Now()
		reason, err := d.ask(ctx, by, s.change)
		if err != nil {
			return nil, err
		}
		x.Seen[word(reason)]++
		if reason != decide.None {
			n++
			continue
		}
		last = asked
		if n > 0 || s.timed == 0 && !s.spend {
			x.After++
			n++
		}
		if last.After(limit) {
			break
		}
	}
	x.OffMS = float64(last.Sub(start)) / float64(time.Millisecond)
	got, err := d.Rollout(ctx)
	if err != nil {
		return nil, err
	}
	x.HourChanged, x.HourLimit = got.GetGate().GetHourChanged(), got.GetGate().GetHourChangedLimit()
	for _, l := range got.GetGate().GetLatches() {
		x.Latches = append(x.Latches, fleet.Latch(l.GetLatch()))
	}
	if s.latch != 0 {
		x.Latch = fleet.Latch(s.latch)
	}
	if s.undo != nil {
		if err := s.undo(ctx); err != nil {
			return nil, err
		}
	}
	if s.latch != 0 {
		_, err = d.Rollouts.ClearGateLatches(ctx, &executorv1.ClearGateLatchesRequest{Latches: []executorv1.GateLatch{s.latch}, Reason: "drill: the next exercise"})
	}
	return x, err
}

// open sets the gate, and sends requests until the model decides. It returns when the gate was last set.
func (d *drill) open(ctx context.Context, s step) (opened time.Time, err error) {
	plan := outcome.Plan{DisagreementCap: disagreementCap, Margin: 0.02, Alpha: outcome.DefaultAlpha, LabelSource: outcome.Reported, HorizonMS: (15 * time.Minute).Milliseconds()}
	req := &executorv1.SetRolloutRequest{
		Percent: 100, Mode: executorv1.RolloutMode_ROLLOUT_MODE_GATED, Lease: durationpb.New(time.Minute), Holder: fmt.Sprintf("drill-%d", d.asked), Reason: s.name, Plan: wire.Plan(plan),
		Gate: &executorv1.Gate{ModelDigest: d.digest, Symbols: []string{d.States[0].Symbol}, WaitBudget: durationpb.New(2 * time.Second)},
	}
	if s.timed == lease && s.act == nil {
		req.Lease = durationpb.New(lease)
	}
	if err := d.AbortRollout(ctx, "drill: the next exercise"); err != nil {
		return opened, err
	}
	for limit := time.Now().Add(openLimit); ; {
		if _, err := d.Rollouts.SetRollout(ctx, req); err != nil {
			if time.Now().After(limit) || !traffic.Pause(ctx, 20*time.Millisecond) { // ml-engine has not been reached yet
				return opened, err
			}
			continue
		}
		opened = time.Now()
		reason, err := d.ask(ctx, distance, nil)
		if err != nil || reason == decide.None {
			return opened, err
		}
		if time.Now().After(limit) || !traffic.Pause(ctx, 20*time.Millisecond) {
			return opened, fmt.Errorf("the model does not decide: %s", reason)
		}
	}
}

// ask requests one decision with a baseline at the distance from the model, and returns why the baseline decided. change
// changes the request; it may be nil.
func (d *drill) ask(ctx context.Context, by float64, change func(*executorv1.PredictRequest)) (decide.Reason, error) {
	s := d.States[d.asked%len(d.States)]
	d.asked++
	with := s.Request()
	req := &executorv1.PredictRequest{
		RequestId: fmt.Sprintf("drill-%d", d.asked), Symbol: with.GetSymbol(), Features: with.GetFeatures(), Source: with.GetSource(),
		BaselineScore: proto.Float64(away(s.Score, by)),
	}
	if change != nil {
		change(req)
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	resp, err := d.Decisions.Predict(ctx, req)
	if err != nil {
		return 0, err
	}
	g := resp.GetGate()
	reason := decide.Off
	if g != nil {
		reason = decide.Reason(g.GetFallbackReason())
	}
	want, digest := req.GetBaselineScore(), g.GetBaselineDigest()
	if reason == decide.None {
		want, digest = s.Score, d.digest
	}
	if g != nil && (math.Float64bits(resp.GetScore()) != math.Float64bits(want) || resp.GetModelDigest() != digest ||
		math.Float64bits(g.GetBaselineScore()) != math.Float64bits(req.GetBaselineScore())) {
		d.report.OtherScores++
	}
	d.report.Requests++
	d.report.Decisions[word(reason)]++
	return reason, nil
}

// count compares the executor's counters with the requests sent.
func (d *drill) count(ctx context.Context) error {
	got, err := d.Rollout(ctx)
	if err != nil {
		return err
	}
	for _, c := range got.GetGate().GetDecisions() {
		n, asked := int64(c.GetCount()), int64(d.report.Decisions[word(decide.Reason(c.GetFallbackReason()))])
		d.report.Unaccounted += max(n-asked, asked-n)
	}
	return nil
}

// word returns the name of a reason, and "model" for decisions by the model.
func word(r decide.Reason) string {
	if r == decide.None {
		return "model"
	}
	return r.String()
}

// Another returns a registry entry with another model; empty if there is none.
func Another(models string, a *model.Artifact) (string, error) {
	registry := model.OpenRegistry(models)
	entries, err := registry.List()
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if m, err := registry.Manifest(e); err == nil && m.Digest != a.Digest() {
			return e.String(), nil
		}
	}
	return "", nil
}

// Name is the name of the evidence file, and Schema its schema.
const (
	Name   = "gate_drill.json"
	Schema = "greenlight/gate_drill/v1"
)

// Report is the body of gate_drill.json.
type Report struct {
	Exercises []Exercise `json:"exercises"`
	// Requests is the number of requests. Decisions counts who decided them: "model", or the baseline by reason. Unaccounted
	// is the difference between the executor's counters and Decisions.
	Requests    uint64            `json:"requests_total"`
	Decisions   map[string]uint64 `json:"decisions"`
	Unaccounted int64             `json:"unaccounted"`
	// OtherScores counts answers that match neither score bit for bit, or name the wrong scorer.
	OtherScores uint64        `json:"other_scores"`
	Checks      []gate.Result `json:"checks"`
}

// Exercise is one way to switch the gate off.
type Exercise struct {
	Name string `json:"name"`
	What string `json:"what"`
	// Expected lists the reasons that the baseline then decides for, Seen counts who decided after it began.
	Expected []string          `json:"expected"`
	Seen     map[string]uint64 `json:"seen"`
	// After counts the requests that the model decided although the gate was off.
	After uint64 `json:"decided_by_model_after"`
	// OffMS is the time until the last decision by the model, in milliseconds. LimitMS is how long that may take; 0 if the
	// next request must already be off.
	OffMS   float64 `json:"off_ms"`
	LimitMS float64 `json:"limit_ms"`
	// Latch is the latch that must keep the gate shut afterwards, Latches are the latches that were set.
	Latch   string   `json:"latch,omitempty"`
	Latches []string `json:"latches,omitempty"`
	// HourChanged is the number of requests that the model changed within the hour, HourLimit the maximum.
	HourChanged uint64 `json:"hour_changed"`
	HourLimit   uint64 `json:"hour_changed_limit"`
}

// wrong counts the requests after the exercise that were not decided as expected.
func (x *Exercise) wrong() (wrong, n uint64) {
	wrong = x.After
	for reason, k := range x.Seen {
		switch {
		case reason == "model":
		case slices.Contains(x.Expected, reason):
			n += k
		default:
			n, wrong = n+k, wrong+k
		}
	}
	if x.Latch != "" && !slices.Equal(x.Latches, []string{x.Latch}) {
		wrong++
	}
	if x.HourChanged > x.HourLimit {
		wrong += x.HourChanged - x.HourLimit
	}
	return wrong, n + x.After
}

// Judge fills in the checks.
func (r *Report) Judge() { r.Checks = r.judge() }

// judge returns the checks of the report.
func (r *Report) judge() []gate.Result {
	var all []gate.Result
	for i := range r.Exercises {
		x := &r.Exercises[i]
		wrong, n := x.wrong()
		all = append(all, gate.Check(gate.Rule{
			Name: x.Name, What: "later requests that were decided by the model, or for another reason", Op: gate.AtMost, Unit: gate.Count, MinSamples: after,
		}, gate.Measured(float64(wrong), n)))
		if x.LimitMS > 0 {
			all = append(all, gate.Check(gate.Rule{
				Name: x.Name + ", time to off", What: "until the model's last decision", Op: gate.AtMost, Threshold: x.LimitMS, Unit: gate.Millis,
			}, gate.Measured(x.OffMS, n)))
		}
	}
	none := func(name, what string, value float64) {
		all = append(all, gate.Check(gate.Rule{Name: name, What: what, Op: gate.AtMost, Unit: gate.Count}, gate.Measured(value, r.Requests)))
	}
	none("answers of neither scorer", "answers that differ, in any bit, from the score of the scorer that they name", float64(r.OtherScores))
	none("decisions unaccounted", "difference between executor's counters and the answers", float64(r.Unaccounted))
	return all
}

// Recheck returns what contradicts the figures of the report.
func (r *Report) Recheck() []string {
	var found []string
	sum := uint64(0)
	for _, n := range r.Decisions {
		sum += n
	}
	if sum != r.Requests {
		found = append(found, fmt.Sprintf("its decisions add up to %d, but it reports %d requests", sum, r.Requests))
	}
	if !slices.EqualFunc(r.judge(), r.Checks, func(a, b gate.Result) bool {
		return a.Name == b.Name && a.Verdict == b.Verdict && a.Threshold == b.Threshold && a.N == b.N && a.Value != nil && b.Value != nil && *a.Value == *b.Value
	}) {
		found = append(found, "has checks that do not follow from its exercises")
	}
	return found
}
