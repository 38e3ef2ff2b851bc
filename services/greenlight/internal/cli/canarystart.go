package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
)

// canaryStart starts or resumes a canary.
type canaryStart struct {
	flags.Rehearsal

	access             flags.Access
	state, phrase, run string
	resume, dry        bool
}

func canaryStartCommand(c console.Console) *cobra.Command {
	var s canaryStart
	// rehearsed are the flags for a dry run only, access those for a run on existing services only.
	rehearsed, access := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd := &cobra.Command{
		Use: "start --confirm PHRASE | --resume | --dry-run", Short: "Run a canary, phase by phase",
		Long: `Start runs the plan that the phrase confirms. It asks no questions, and refuses to start if anything has changed
since. At the end it sets every executor to 0 %, reads that back, and writes canary_run_<time>.json with a plot and a table to
the evidence folder. After an interruption (Ctrl-C, SIGTERM, kill), --resume restarts the phase that was interrupted.

With --dry-run the same controller runs the same phases, but shorter, against an ml-engine and an executor that it starts on
free ports of this machine. It sends market states to them. A dry run needs no phrase, writes canary_dryrun_observe.json, and
does not count for a promotion.

It exits 0 if all phases passed, 3 if it was aborted or stopped, 1 if it was interrupted or refused.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ways := 0
			for _, g := range []bool{cmd.Flags().Changed("confirm"), s.resume, s.dry} {
				if g {
					ways++
				}
			}
			switch {
			case ways != 1:
				return console.Usagef("give one of --confirm, --resume and --dry-run")
			case !s.dry && given(cmd.Flags(), rehearsed) != "":
				return console.Usagef("--%s is for --dry-run: for a real canary, set it with greenlight canary plan", given(cmd.Flags(), rehearsed))
			case s.dry && given(cmd.Flags(), access) != "":
				return console.Usagef("--%s is not for --dry-run, which starts its own pair on this machine", given(cmd.Flags(), access))
			case !s.resume && cmd.Flags().Changed("run"):
				return console.Usagef("--run is for --resume: it names the run that is resumed")
			case s.dry:
				return s.rehearse(cmd.Context(), c)
			case s.resume:
				return refusedCanary(canary.State(s.state).Continue(cmd.Context(), s.run, s.access.Access, s.conduct(cmd.Context(), c)))
			default:
				return refusedCanary(canary.State(s.state).Start(cmd.Context(), s.phrase, s.access.Access, s.conduct(cmd.Context(), c)))
			}
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&s.phrase, "confirm", "", "the phrase that greenlight canary plan printed")
	fs.BoolVar(&s.resume, "resume", false, "resume an interrupted run")
	fs.StringVar(&s.run, "run", "", "the run to resume; by default the newest")
	fs.BoolVar(&s.dry, "dry-run", false, "rehearse on services that the command starts itself")
	declareCanaryState(fs, &s.state)
	s.access.Declare(access, c)
	s.access.DeclareKey(access)
	s.Rehearsal.Declare(rehearsed)
	fs.AddFlagSet(access)
	fs.AddFlagSet(rehearsed)
	return cmd
}

// given returns a flag of the set that was given on the command line; empty if there is none.
func given(fs, set *pflag.FlagSet) (name string) {
	fs.Visit(func(f *pflag.Flag) {
		if set.Lookup(f.Name) != nil {
			name = f.Name
		}
	})
	return name
}

// errInterrupted is the error of a run that can be resumed.
var errInterrupted = errors.New("the canary was interrupted; it shadows no requests now")

// conduct returns a function that runs the remaining phases and writes the evidence once the run has ended.
func (s *canaryStart) conduct(ctx context.Context, c console.Console) func(*canary.Run, *fleet.Services, *preflight.Inspection) error {
	return func(run *canary.Run, services *fleet.Services, from *preflight.Inspection) error {
		record, err := canaryview.Conduct(ctx, c, run, services, from)
		if err != nil {
			return err
		}
		if record.Decision == canary.Interrupted {
			return console.WithHint(errInterrupted, "greenlight canary start --resume --run %s%s%s resumes it at the same phase", record.ID, stateFlag(s.state), s.access.Again())
		}
		name := run.EvidenceName()
		if err := flags.WithEvidence(c, run.Plan.Evidence, func(store *evidence.Store) error {
			return canaryview.Write(store, run, record, name, console.Revision())
		}); err != nil {
			return err
		}
		if err := canaryview.Table(c.Out, record); err != nil {
			return err
		}
		c.Say("evidence  %s.json, with .svg and .md", filepath.Join(run.Plan.Evidence, name))
		c.Say("canary    %s%s", record.Decision, canaryview.Because(record.Reason))
		switch {
		case !record.RolledBack:
			return errors.New("0 % was not read back from every executor: each lease lapses by itself within " + record.Policy.Lease.String())
		case record.Decision != canary.Passed:
			return console.ErrGate
		case !record.PromoteEligible:
			c.Say("          it does not count for a promotion: %s", record.PromoteReason)
		}
		return nil
	}
}

// rehearse runs the phases against a pair that it starts.
func (s *canaryStart) rehearse(ctx context.Context, c console.Console) error {
	p, err := s.Prepare(c)
	if err != nil {
		return err
	}
	p.Dir = filepath.Join(s.state, "rehearsals", time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return err
	}
	pace := s.Pace(nil)
	if pace.Rate == 0 {
		pace.Rate = rehearsal.Rate
	}
	return rehearsal.WithPair(ctx, p.Setup, func(pair *rehearsal.Pair) error {
		if err := pair.Warm(ctx, p.States[0]); err != nil {
			return err
		}
		r, err := (&rehearsal.Canary{
			Trial: *p.Trial, Pair: pair, State: canary.State(s.state), Folder: s.Evidence, Policy: p.Policy, States: p.States, Pace: pace,
			Keep: func(write func(*evidence.Store) error) error { return flags.WithEvidence(c, s.Evidence, write) },
		}).Rehearse(ctx, c)
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
