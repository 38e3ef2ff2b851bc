package cli

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// RehearsalFlags are the requests, the policy and the programs of a rehearsed canary.
type RehearsalFlags struct {
	load   loadFlags
	policy policyFlags
	bin    string
	// shadowTimeout is how long a shadow may take.
	shadowTimeout time.Duration
}

// Declare declares the flags.
func (r *RehearsalFlags) Declare(fs *pflag.FlagSet) {
	r.load.declare(fs)
	r.policy.declare(fs)
	declareShadowTimeout(fs, &r.shadowTimeout)
	fs.StringVar(&r.bin, "bin", "", "folder of the programs ml-engine and executor, for --dry-run; that of greenlight when it is not given")
}

// Rehearsal is what the flags name.
type Rehearsal struct {
	// Programs, Models and Evidence are folders.
	Programs, Models, Evidence string
	Data                       *experiment.Data
	Artifact                   *model.Artifact
	States                     []traffic.State
	// Rate is the number of requests a second; 0 without --rate.
	Rate   float64
	Policy gate.Policy
	// DefaultPolicy reports whether there was no --policy.
	DefaultPolicy bool
	// ShadowTimeout is how long a shadow may take.
	ShadowTimeout time.Duration
}

// Prepare reads what the flags name.
func (r *RehearsalFlags) Prepare(c console.Console) (*Rehearsal, error) {
	policy, err := r.policy.rehearsalPolicy()
	if err != nil {
		return nil, err
	}
	bin, err := findPrograms(r.bin)
	if err != nil {
		return nil, err
	}
	if _, err := evidence.Verify(r.load.evidence); err != nil {
		return nil, console.WithHint(err, "greenlight train and greenlight eval write the offline evidence; --evidence names its folder")
	}
	t, states, err := r.load.states(c, released)
	if err != nil {
		return nil, err
	}
	return &Rehearsal{
		Programs: bin, Models: r.load.models, Evidence: r.load.evidence, Data: t.Data, Artifact: t.Artifact, States: states, Rate: r.load.rate,
		Policy: policy, DefaultPolicy: r.policy.file == "", ShadowTimeout: r.shadowTimeout,
	}, nil
}

// rehearse runs the phases against a pair that it starts.
func (s *canaryStart) rehearse(ctx context.Context, c console.Console) error {
	policy, err := s.policy.rehearsalPolicy()
	if err != nil {
		return err
	}
	bin, err := findPrograms(s.bin)
	if err != nil {
		return err
	}
	t, states, err := s.load.states(c, released)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.state, "rehearsals", time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pace := s.load.pace(nil)
	if pace.Rate == 0 {
		pace.Rate = rehearsal.Rate
	}
	services := process.Services{Programs: bin, Models: s.load.models, Artifact: t.Artifact}
	return rehearsal.WithPair(ctx, services, process.Pair{Dir: dir, ShadowTimeout: s.shadowTimeout}, func(pair *rehearsal.Pair) error {
		if err := pair.Warm(ctx, states[0]); err != nil {
			return err
		}
		r, err := dryRun(ctx, c, &rehearsal.Canary{
			Trial: *t, Pair: pair, State: canary.State(s.state), Folder: s.load.evidence, Policy: policy, States: states, Pace: pace,
			Keep: func(write func(*evidence.Store) error) error { return withEvidence(s.load.evidence, write) },
		})
		if err != nil {
			return err
		}
		if r.Decision == canary.Interrupted {
			return context.Canceled
		}
		if err := canaryview.Table(c.Out, r.Record); err != nil {
			return err
		}
		return c.Verdict(gate.Scorecard{Results: r.Checks})
	})
}

// dryRun runs and shows a dry run.
func dryRun(ctx context.Context, c console.Console, r *rehearsal.Canary) (*rehearsal.CanaryResult, error) {
	r.Run = func(ctx context.Context, run *canary.Run, services *fleet.Services, in *canary.Inspection) (*canary.Record, error) {
		return show(ctx, c, run, services, in)
	}
	result, err := r.Rehearse(ctx)
	if err != nil {
		return nil, refusedCanary(err)
	}
	if result.Decision != canary.Interrupted {
		c.Say("canary    dry run on %s: %s%s; %s, %d other than the baseline's; %s.json", r.Data.Name, result.Decision, because(result.Reason),
			text.Count(result.Answers, "answer"), result.Changed, rehearsal.CanaryName)
	}
	return result, nil
}
