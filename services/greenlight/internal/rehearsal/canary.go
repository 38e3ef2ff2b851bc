package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

const (
	// Rate is the default request rate of a dry run, per second: 5 % of it reach the minimum of comparisons within seconds.
	Rate = 4000
	// CanaryName is the evidence name of a dry run, without its extension.
	CanaryName = "canary_dryrun_observe"

	phase    = 3 * time.Second
	hold     = time.Minute
	interval = 250 * time.Millisecond
)

// Shorten shortens the times of the policy for a dry run, unless they are shorter already.
func Shorten(p *gate.Policy, keepPhase, keepHold bool) {
	if !keepPhase {
		p.PhaseDuration = min(p.PhaseDuration, gate.Duration(phase))
	}
	if !keepHold {
		p.HoldLimit = min(p.HoldLimit, gate.Duration(hold))
	}
}

// Canary configures a dry run: a canary on a pair that nobody else uses, with its own requests. All fields are required.
type Canary struct {
	Trial

	Pair  *Pair
	State canary.State
	// Folder is the evidence folder, which has the offline evaluation of the model. Keep opens it for writing.
	Folder string
	Keep   func(write func(*evidence.Store) error) error
	Policy gate.Policy
	// States are sent in turn, at the pace, whose rate must be above 0.
	States []traffic.State
	Pace   traffic.Pace
}

// CanaryResult is a dry run that has ended.
type CanaryResult struct {
	*canary.Record

	// Answers is the number of requested decisions, Changed the number that were lost or differ from the baseline's.
	Answers, Changed int
	// Checks judge the dry run.
	Checks []gate.Result
}

// Rehearse runs and shows the phases while it sends requests, and writes the evidence, unless the run was interrupted.
func (c *Canary) Rehearse(ctx context.Context, on console.Console) (_ *CanaryResult, err error) {
	defer func() { err = console.Advised(err, canary.Hint(err)) }()
	services := c.Pair.Services
	target := canary.Target{
		Executors: []string{c.Pair.ExecutorProcess.Addr("grpc")}, Engines: []string{c.Pair.EngineProcess.Addr("grpc")}, Evidence: c.Folder,
	}
	in := target.Inspect(ctx, services)
	plan, err := canary.NewPlan(in, target, c.Policy, interval, c.Data.Source())
	if err != nil {
		return nil, err
	}
	run, err := c.State.Rehearse(plan)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	stop := c.send(ctx)
	r := &CanaryResult{}
	r.Record, err = canaryview.Conduct(ctx, on, run, services, in)
	sent := stop()
	if err = errors.Join(err, sent.err); err != nil {
		return nil, err
	}
	if r.Decision == canary.Interrupted {
		return r, nil
	}
	r.Answers, r.Changed = sent.total, sent.changed
	r.judge(c.Policy)
	if err := c.Keep(func(store *evidence.Store) error { return canaryview.Write(store, run, r.Record, CanaryName, c.Git) }); err != nil {
		return nil, err
	}
	on.Say("canary    dry run on %s: %s%s; %s, %d other than the baseline's; %s.json", c.Data.Name, r.Decision, canaryview.Because(r.Reason),
		text.Count(r.Answers, "answer"), r.Changed, CanaryName)
	return r, nil
}

// sent counts the requests of a dry run.
type sent struct {
	total, changed int
	err            error
}

// send sends the states in turn until the returned function is called, which waits for the last answers.
func (c *Canary) send(ctx context.Context) (stop func() sent) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan sent, 1)
	go func() { done <- c.drive(ctx) }()
	return func() sent {
		cancel()
		return <-done
	}
}

// drive sends chunks of half a second, so that it ends soon after ctx.
func (c *Canary) drive(ctx context.Context) (s sent) {
	chunk := max(1, min(len(c.States), int(c.Pace.Rate/2)))
	for from := 0; ctx.Err() == nil; from = (from + chunk) % len(c.States) {
		// A chunk is completed, because answers that are cut off would count as lost.
		r, err := traffic.Shadow(context.WithoutCancel(ctx), c.Pair.Executor, c.Artifact, c.States[from:min(from+chunk, len(c.States))], c.Pace)
		if err != nil {
			s.err = fmt.Errorf("send states to the executor: %w", err)
			return s
		}
		s.total += r.Total
		s.changed += r.Total - r.Succeeded
	}
	return s
}

// judge fills in the checks.
func (r *CanaryResult) judge(policy gate.Policy) {
	passed := 0
	for _, p := range r.Phases {
		if p.Decision == canary.Passed {
			passed++
		}
	}
	r.Checks = []gate.Result{
		gate.Check(gate.Rule{
			Name: "canary dry run phases passed", What: "phases of the policy that passed",
			Op: gate.AtLeast, Threshold: float64(len(policy.Phases)), Unit: gate.Count,
		}, gate.Measured(float64(passed), uint64(len(policy.Phases)))),
		gate.Check(gate.Rule{
			Name: "canary baseline answers lost or changed", What: "answers during the canary that differ, in any bit, from the baseline's",
			Op: gate.AtMost, Threshold: 0, Unit: gate.Count, MinSamples: policy.MinComparisons,
		}, gate.Measured(float64(r.Changed), uint64(r.Answers))),
	}
}
