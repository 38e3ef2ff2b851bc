package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// RehearsalFlags say what a canary is rehearsed on: what to send, by which policy, and with which programs.
type RehearsalFlags struct{ rehearsal }

// Declare declares the flags.
func (r *RehearsalFlags) Declare(fs *pflag.FlagSet) { r.declare(fs) }

// Rehearsal is what a canary is rehearsed on.
type Rehearsal struct {
	// Programs, Models and Evidence are folders.
	Programs, Models, Evidence string
	Data                       *experiment.Data
	Artifact                   *model.Artifact
	States                     []traffic.State
	// Rate is how many decisions are asked for a second; 0 when --rate is not given.
	Rate   float64
	Policy gate.Policy
	// DefaultPolicy says that no --policy was given.
	DefaultPolicy bool
	// ShadowTimeout is how long a shadow may take.
	ShadowTimeout time.Duration
}

// Prepare reads what the flags name.
func (r *RehearsalFlags) Prepare(c Console) (*Rehearsal, error) {
	policy, err := r.policy.rehearsalPolicy()
	if err != nil {
		return nil, err
	}
	bin, err := Programs(r.bin)
	if err != nil {
		return nil, err
	}
	if _, err := evidence.Verify(r.load.evidence); err != nil {
		return nil, WithHint(err, "greenlight train and greenlight eval write the offline evidence; --evidence names its folder")
	}
	data, a, states, err := r.load.states(c, released)
	return &Rehearsal{
		Programs: bin, Models: r.load.models, Evidence: r.load.evidence, Data: data, Artifact: a, States: states, Rate: r.load.rate,
		Policy: policy, DefaultPolicy: r.policy.file == "", ShadowTimeout: r.shadowTimeout,
	}, err
}

// rehearsal is what a dry run takes beside the controller: something to send, and somebody to send it to.
type rehearsal struct {
	load   loadFlags
	policy policyFlags
	bin    string
	// shadowTimeout is how long a shadow may take.
	shadowTimeout time.Duration
}

const (
	// The pace of a dry run: 5 % of the rate is the floor of comparisons in some seconds.
	rehearsalRate     = 4000
	rehearsalPhase    = 3 * time.Second
	rehearsalHold     = time.Minute
	rehearsalInterval = 250 * time.Millisecond
)

func (r *rehearsal) declare(fs *pflag.FlagSet) {
	r.load.declare(fs)
	r.policy.declare(fs)
	declareShadowTimeout(fs, &r.shadowTimeout)
	fs.StringVar(&r.bin, "bin", "", "folder of the programs ml-engine and executor, for --dry-run; that of greenlight when it is not given")
}

// declareShadowTimeout declares how long a shadow may take on a pair that the command starts.
func declareShadowTimeout(fs *pflag.FlagSet, timeout *time.Duration) {
	fs.DurationVar(timeout, "shadow-timeout", shadow.DefaultOptions().Timeout, "how long a shadow may take; longer where the machine has other things to do, and shadows are late for that")
}

// rehearsalPolicy is the policy of a dry run: the same but for the times, which are short unless a flag says otherwise.
func (f *policyFlags) rehearsalPolicy() (gate.Policy, error) {
	p, err := f.policy()
	if err != nil {
		return p, err
	}
	if !f.changed("phase-duration") {
		p.PhaseDuration = min(p.PhaseDuration, gate.Duration(rehearsalPhase))
	}
	if !f.changed("hold-limit") {
		p.HoldLimit = min(p.HoldLimit, gate.Duration(rehearsalHold))
	}
	return p, p.Validate()
}

// rehearse starts a pair, runs the phases against it, and stops it.
func (s *canaryStart) rehearse(ctx context.Context, c Console) error {
	policy, err := s.policy.rehearsalPolicy()
	if err != nil {
		return err
	}
	bin, err := Programs(s.bin)
	if err != nil {
		return err
	}
	data, a, states, err := s.load.states(c, released)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.state, "rehearsals", time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return withPair(ctx, pairOptions{
		bin: bin, dir: dir, models: s.load.models, artifact: a, shadowTimeout: s.shadowTimeout,
		engine: serviceFlags{freePort, freePort}, executor: serviceFlags{freePort, freePort},
	}, func(engine, executor *process.Process) error {
		if err := awaitShadow(ctx, executor.Addr("grpc"), states); err != nil {
			return err
		}
		pace := s.load.pace(nil)
		if pace.Rate == 0 {
			pace.Rate = rehearsalRate
		}
		r := dryRun{
			state: canary.State(s.state), policy: policy, data: data, artifact: a, states: states, pace: pace,
			target: canary.Target{Executors: []string{executor.Addr("grpc")}, Engines: []string{engine.Addr("grpc")}, Evidence: s.load.evidence},
			keep:   func(write func(*evidence.Store) error) error { return keepEvidence(s.load.evidence, write) },
		}
		record, card, err := r.run(ctx, c)
		if err != nil {
			return err
		}
		if record.Decision == canary.Interrupted {
			return context.Canceled
		}
		if err := canaryview.Table(c.Out, record); err != nil {
			return err
		}
		return c.Verdict(gate.Scorecard{Results: card})
	})
}

// freePort is any free port of this machine's loopback.
const freePort = "127.0.0.1:0"

// dryRun is a canary on requests of our own.
type dryRun struct {
	state    canary.State
	target   canary.Target
	policy   gate.Policy
	data     *experiment.Data
	artifact *model.Artifact
	states   []traffic.State
	pace     traffic.Pace
	// keep hands out the evidence folder.
	keep func(write func(*evidence.Store) error) error
}

// dryRunName is the evidence of a dry run, without its ending.
const dryRunName = "canary_dryrun_observe"

// run runs the phases while it sends, and writes the evidence. The results are for a scorecard.
func (d *dryRun) run(ctx context.Context, c Console) (_ *canary.Record, _ []gate.Result, err error) {
	services, err := fleet.Dial(fleet.Options{Engines: d.target.Engines, Executors: d.target.Executors})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, services.Close()) }()
	in := canary.Inspect(ctx, services, d.target)
	plan, err := canary.NewPlan(in, d.target, d.policy, rehearsalInterval, d.data.Source())
	if err != nil {
		return nil, nil, refusedCanary(err)
	}
	run, err := d.state.Rehearse(plan)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	stop := d.send(ctx)
	record, err := show(ctx, c, run, services, in)
	sent := stop()
	if err = errors.Join(err, sent.err); err != nil {
		return nil, nil, err
	}
	if record.Decision == canary.Interrupted {
		return record, nil, nil
	}
	if err := keepCanary(d.keep, run, record, dryRunName); err != nil {
		return nil, nil, err
	}
	c.Say("canary    dry run on %s: %s%s; %s, %d other than the baseline's; %s.json", d.data.Name, record.Decision, because(record.Reason),
		text.Count(sent.total, "answer"), sent.changed, dryRunName)
	return record, d.judge(record, sent), nil
}

// sent is what was sent beside the controller, and how many answers were lost or not the baseline's.
type sent struct {
	total, changed int
	err            error
}

// send sends the states round and round, until the function that it returns is called.
func (d *dryRun) send(ctx context.Context) (stop func() sent) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan sent, 1)
	go func() { done <- d.drive(ctx) }()
	return func() sent {
		cancel()
		return <-done
	}
}

// drive sends in chunks of about half a second, so that it ends soon after it is told to.
func (d *dryRun) drive(ctx context.Context) (s sent) {
	at := endpoint{addr: d.target.Executors[0]}
	err := at.dial(func(conn *grpc.ClientConn) error {
		chunk := max(1, min(len(d.states), int(d.pace.Rate/2)))
		for from := 0; ctx.Err() == nil; from = (from + chunk) % len(d.states) {
			// What was begun is ended: an answer that was cut off would count as lost.
			r, err := traffic.Shadow(context.WithoutCancel(ctx), executorClient(conn), d.artifact, d.states[from:min(from+chunk, len(d.states))], d.pace)
			if err != nil {
				return fmt.Errorf("send states to the executor: %w", err)
			}
			s.total += r.Total
			s.changed += r.Total - r.Succeeded
		}
		return nil
	})
	s.err = err
	return s
}

// judge is the results of a dry run.
func (d *dryRun) judge(r *canary.Record, s sent) []gate.Result {
	passed := 0
	for _, p := range r.Phases {
		if p.Decision == canary.Passed {
			passed++
		}
	}
	return []gate.Result{
		gate.Check(gate.Rule{
			Name: "canary dry run phases passed", What: "phases that passed of those in the policy",
			Op: gate.AtLeast, Threshold: float64(len(d.policy.Phases)), Unit: gate.Count,
		}, gate.Measured(float64(passed), uint64(len(d.policy.Phases)))),
		gate.Check(gate.Rule{
			Name: "canary baseline answers lost or changed", What: "answers during the canary that are not, to the last bit, the baseline's",
			Op: gate.AtMost, Threshold: 0, Unit: gate.Count, MinSamples: d.policy.MinComparisons,
		}, gate.Measured(float64(s.changed), uint64(s.total))),
	}
}
