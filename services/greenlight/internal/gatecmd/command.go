// Package gatecmd implements the commands of greenlight gate: flags, texts and exit codes. Package gatekeeper does the work.
package gatecmd

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/evidencedoc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/replies"
)

// Command returns the command with all its subcommands.
func Command(c console.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "gate", Short: "Let a promoted model decide a share of the requests, behind a gate, and stop it",
		Long: `Gate lets a promoted model decide a share of the requests, within bounds that a person confirms. The baseline decides all
others, and every request that fails a check: a late answer, a score too far from the baseline, a state outside the training data.

  greenlight gate plan     shows the worst that the gate can do, and prints the phrase that confirms it
  greenlight gate start --plan FILE --confirm "<phrase>"   keeps the gate open until it is stopped
  greenlight gate status   from anywhere, at any time
  greenlight gate stop     no model decides; shadows continue
  greenlight gate kill     the same, until a person clears it
  greenlight gate clear    clears a kill, an alarm or a spent budget
  greenlight gate drill    tests every way to switch the gate off, on its own pair of services
  greenlight gate replay   recomputes every decision in a feature log

A gate is open only while gate start renews its lease. If it dies, hangs or loses the network, the baseline decides everything
within the lease. An executor without --allow-gated never lets a model decide.

With --fleet and --fleet-group, start, status, stop, kill and clear act on the executors of a group.`,
		Args: console.NoArgs,
	}
	cmd.AddCommand(gatePlanCommand(c), gateStartCommand(c), gateStatusCommand(c), gateStopCommand(c), gateKillCommand(c), gateClearCommand(c), gateDrillCommand(c), gateReplayCommand(c))
	return cmd
}

// gateState is the default folder of the phrases and journals.
var gateState = filepath.Join("var", "gate")

func declareGateState(fs *pflag.FlagSet, state *string) {
	fs.StringVar(state, "state", gateState, "folder of the phrases and the journals")
}

func gateStateFlag(state string) string {
	if state == gateState {
		return ""
	}
	return flags.Flagged("state", state)
}

// refusedGate adds a hint to the error of a refused gate.
func refusedGate(err error) error { return console.Advised(err, gatekeeper.Hint(err)) }

// gatePlan holds the inputs of a plan.
type gatePlan struct {
	question              gatekeeper.Question
	state, source         string
	wait, lease, validity time.Duration
}

func gatePlanCommand(c console.Console) *cobra.Command {
	var p gatePlan
	cmd := &cobra.Command{
		Use: "plan --model MODEL", Short: "Show the worst that a gate can do, and print the phrase that confirms it",
		Long: `Plan reads the promotion of a model from the evidence, which must verify, and writes gate_plan_<time>.json: the share of
requests that the model may decide, and the bounds. It prints the worst that this can do, and the phrase that confirms exactly
this plan. The phrase works once, within --expires. Plan calls no service and changes no gate.

The model may differ from the baseline by at most D, the disagreement cap of the quality plan that it was promoted under.
A model whose reference profile lacks the 0.05 and 99.95 % quantiles of its features cannot be gated.`,
		Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error { return refusedGate(p.run(c)) },
	}
	fs := cmd.Flags()
	t := &p.question.Terms
	fs.StringVar(&p.question.Model, "model", "", "the promoted model: name/version, or just the version if it is unique")
	fs.StringVar(&p.question.Models, "models", "models", "registry folder with the model")
	flags.Evidence(fs, &p.question.Evidence)
	declareGateState(fs, &p.state)
	fs.Float64Var(&t.Percent, "percent", gatekeeper.DefaultPercent, "share of the requests that the model may decide, up to 100")
	fs.Float64Var(&t.ObservePercent, "observe-percent", 100, "share of the requests that get a shadow, at least --percent")
	fs.StringSliceVar(&t.Symbols, "symbols", nil, "the symbols that the model may decide: at most 1,000, of at most 64 bytes each and about 64 KiB in total")
	fs.BoolVar(&t.AllSymbols, "all-symbols", false, "let the model decide every symbol, and requests without one")
	fs.Float64Var(&t.MinScore, "min-score", 0, "the lowest score of the model that may decide")
	fs.Float64Var(&t.MaxScore, "max-score", 1, "the highest score of the model that may decide")
	fs.DurationVar(&p.wait, "wait-budget", gatekeeper.DefaultWaitBudget, "how long a request waits for the model")
	fs.Float64Var(&t.ChangedPercent, "changed-percent", gatekeeper.DefaultChangedPercent, "share of an hour's requests that the model may change by more than 0.05 (F)")
	fs.DurationVar(&p.lease, "lease", gatekeeper.DefaultLease, "how long the gate stays open without greenlight gate start, 1s to 1h")
	fs.StringVar(&p.source, "source", string(evidence.Live), "where the requests come from: live, replay or simulated")
	fs.DurationVar(&p.validity, "expires", confirmation.Validity, "how long the phrase works")
	return cmd
}

func (p *gatePlan) run(c console.Console) error {
	q := p.question
	q.Terms.WaitBudget, q.Terms.Lease, q.Source, q.Verify = gate.Duration(p.wait), gate.Duration(p.lease), evidence.Source(p.source), evidencedoc.Verify
	switch err := q.Terms.Validate(); {
	case err != nil:
		return console.Usage(err)
	case q.Model == "":
		return console.Usagef("give --model")
	case !q.Source.Valid():
		return console.Usagef("--source %s: want live, replay or simulated", p.source)
	case p.validity < time.Minute:
		return console.Usagef("--expires %s: want at least 1m", p.validity)
	}
	plan, err := gatekeeper.NewPlan(q)
	if err != nil {
		return err
	}
	var file *gatekeeper.PlanFile
	if err := flags.WithEvidence(c, q.Evidence, func(store *evidence.Store) (err error) {
		file, err = plan.Write(store, q.Evidence, console.Revision())
		return err
	}); err != nil {
		return err
	}
	ticket, err := gatekeeper.State(p.state).Issue(file, p.validity)
	if err != nil {
		return err
	}
	path := filepath.Join(q.Evidence, file.Input.Path)
	c.Say("model     %s, promoted at %s, quality plan %.12s", plan.Model, plan.PromotionTime.UTC().Format(time.RFC3339), plan.QualityDigest)
	c.Say("worst     %s", strings.Join(plan.Worst(), "\n          "))
	c.Say("plan      %s", path)
	c.Say("\nNothing was changed. To start it on the executors of --executor or of --fleet, until %s, once (%s):", ticket.ExpiryTime.Format("15:04 UTC"), confirmation.Onay)
	c.Say("greenlight gate start --plan %s --confirm %s%s", path, console.Quoted(ticket.Phrase), gateStateFlag(p.state))
	return nil
}

// gateStart opens a gate and keeps it open.
type gateStart struct {
	flags.Pair

	plan, phrase, state string
}

func gateStartCommand(c console.Console) *cobra.Command {
	var s gateStart
	cmd := &cobra.Command{
		Use: "start --plan FILE --confirm PHRASE", Short: "Open the gate of all executors, and keep it open until it is stopped",
		Long: `Start opens the gate of the plan on all executors. It refuses, and changes nothing, unless the evidence verifies and contains
the plan and the promotion, the phrase confirms this plan, and every executor allows it (--allow-gated), has no latch, has
this model on its ml-engine, and is not held by anybody else.

It renews every executor's lease after a third of its length, until it is stopped (Ctrl-C, SIGTERM). Then no model decides,
and shadows continue at the observe percent. An executor that cannot be reached returns to the baseline when its lease
lapses. Its gate reopens once it can be reached again, if the lease only lapsed or the executor only restarted. If one
executor is killed, raises an alarm or spends its budget, or if somebody else changes a rollout, the gate is stopped on all
others too, and start ends.

With --fleet and --fleet-group, start uses the executors of a group, which may come and go. All present executors must be ready
at the start. The gate is one record, signed with --fleet-key and renewed after a sixth of the lease. The gate of an executor that
joins is opened. If it refuses, its reason is shown, and the run continues. At the end the record says 0 %, and the shadows
stop too.

At the end it writes gate_<time>_<id>.json with all counts by reason to the folder of the plan. After a kill of this command,
the next gate start or gate stop writes it.

It exits 0 when it was stopped, 3 when an executor ended the run, and 1 when it was refused or an executor was not read back.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch err := s.CheckExecutors(); {
			case err != nil:
				return err
			case s.plan == "":
				return console.Usagef("give --plan: greenlight gate plan writes it")
			case s.phrase == "":
				return console.Usagef("give --confirm: greenlight gate plan printed the phrase")
			}
			return refusedGate(s.run(cmd.Context(), c))
		},
	}
	fs := cmd.Flags()
	s.DeclareExecutors(fs, c, flags.ControlTimeout)
	s.DeclareFleet(fs, true)
	fs.StringVar(&s.plan, "plan", "", "file of the plan, in an evidence folder")
	fs.StringVar(&s.phrase, "confirm", "", "the phrase that greenlight gate plan printed")
	declareGateState(fs, &s.state)
	return cmd
}

// errGateNotOff is the error of a gate that may be open until its lease lapses.
var errGateNotOff = errors.New("some executors were not read back: their leases will lapse")

func (s *gateStart) run(ctx context.Context, c console.Console) error {
	state := gatekeeper.State(s.state)
	if err := settleGates(c, state); err != nil {
		return err
	}
	file, err := gatekeeper.ReadPlan(s.plan)
	if err != nil {
		return err
	}
	return s.Reach(ctx, fleetgroup.Brake{}, func(services *fleet.Services, g *fleetgroup.Group) error {
		target := gatekeeper.Target{
			Executors: services.Executors, Group: g, Timeout: s.Timeout, Waiting: func(what string) { c.Say("waiting   %s", what) },
		}
		return state.Start(ctx, file, s.phrase, target, evidencedoc.Verify, func(run *gatekeeper.Run, in *gatekeeper.Inspection) error {
			c.Say("run       %s, journal in %s", run.Record.ID, run.Dir)
			view := gatekeeper.NewView(c.Out, c.Screen, file.Plan)
			fault := gatekeeper.NewKeeper(run, in, view.Observe).Run(ctx)
			view.Close()
			return errors.Join(fault, gateEnded(c, run))
		})
	})
}

// gateEnded writes and prints the record of a run that has ended.
func gateEnded(c console.Console, run *gatekeeper.Run) error {
	if err := writeGate(c, run); err != nil {
		return err
	}
	r := run.Record
	if err := r.Table(c.Out); err != nil {
		return err
	}
	c.Say("gate      %s%s", r.Decision, canaryview.Because(r.Reason))
	switch {
	case !r.Off:
		return errGateNotOff
	case r.Decision != gatekeeper.Stopped:
		return console.ErrGate
	}
	return nil
}

func writeGate(c console.Console, run *gatekeeper.Run) error {
	return flags.WithEvidence(c, run.Record.Folder, func(store *evidence.Store) error {
		name, err := run.Write(store, console.Revision())
		if err == nil {
			c.Say("evidence  %s", filepath.Join(run.Record.Folder, name))
		}
		return err
	})
}

// settleGates writes the evidence of runs whose gate start was killed.
func settleGates(c console.Console, state gatekeeper.State) error {
	return state.Settle(func(run *gatekeeper.Run) error {
		c.Say("run       %s: %s%s", run.Record.ID, run.Record.Decision, canaryview.Because(run.Record.Reason))
		return writeGate(c, run)
	})
}

func gateStatusCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var show func([]replies.Reply) error
	cmd := &cobra.Command{
		Use: "status", Short: "Show the gate of every executor",
		Long: `Status shows the gate of every executor: whether it is open, the percentage, what keeps it shut and who set that, why and when,
the decisions of the process by reason, how many requests the model changed in the last hour, and the time left on the lease.
It exits 1 when an executor does not answer.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return useExecutors(cmd.Context(), &p, fleetgroup.Brake{}, func(ctx context.Context, all []fleet.Executor, _ *fleetgroup.Group) error {
				answers, errs := gatekeeper.Read(ctx, all)
				list := make([]replies.Reply, len(all))
				for i, x := range all {
					var err error
					if list[i], err = replies.Of(x.Addr, answers[i], errs[i]); err != nil {
						return err
					}
				}
				if err := show(list); err != nil {
					return err
				}
				if gatekeeper.Status(c.Out, all, answers, errs) != nil {
					return replies.ErrUnreached
				}
				return nil
			})
		},
	}
	p.DeclareExecutors(cmd.Flags(), c, flags.ControlTimeout)
	p.DeclareFleet(cmd.Flags(), false)
	show = replies.Outputs(c, cmd)
	return cmd
}

// useExecutors connects to the executors of the flags, at least one, and their group, nil without one. The brake is sent
// first.
func useExecutors(ctx context.Context, p *flags.Pair, brake fleetgroup.Brake, use func(context.Context, []fleet.Executor, *fleetgroup.Group) error) error {
	if err := p.CheckExecutors(); err != nil {
		return err
	}
	return p.Brake(ctx, brake, func(ctx context.Context, services *fleet.Services, g *fleetgroup.Group) error {
		return use(ctx, services.Executors, g)
	})
}

func gateStopCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var reason, state string
	var toOff bool
	cmd := &cobra.Command{
		Use: "stop", Short: "Let no model decide, and keep the shadows",
		Long: `Stop ends the gate of every executor now, under any lease, and reads it back: the baseline decides everything. Shadows
continue at the observe percent of the gate, so evidence is still collected. With --to-off they stop too. It needs no
confirmation. A running greenlight gate start ends at its next reading.

With --fleet and --fleet-group it stops a group, and sets its record to 0 %. The shadows stop too.

It exits 1 if an executor was not stopped. That executor's lease lapses without any call.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			brake := fleetgroup.Brake{Kind: fleetv1.StopKind_STOP_KIND_ABORT, Reason: reason, Say: c.Say}
			err := useExecutors(cmd.Context(), &p, brake, func(ctx context.Context, all []fleet.Executor, g *fleetgroup.Group) error {
				if failed := gatekeeper.Lines(c.Out, gatekeeper.Stop(ctx, all, g, toOff, reason)); failed != nil {
					return console.WithHint(errGateNotOff, "greenlight gate kill, the file gate.kill in its state folder or SIGUSR1 stops it sooner")
				}
				return nil
			})
			return errors.Join(err, settleGates(c, gatekeeper.State(state)))
		},
	}
	fs := cmd.Flags()
	p.DeclareExecutors(fs, c, flags.BrakeTimeout)
	p.DeclareFleet(fs, true)
	fs.BoolVar(&toOff, "to-off", false, "stop the shadows too")
	fs.StringVar(&reason, "reason", "greenlight gate stop", "why, for the audit log")
	declareGateState(fs, &state)
	return cmd
}

func gateKillCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var reason string
	cmd := &cobra.Command{
		Use: "kill --reason TEXT", Short: "Let no model decide, from the next request until a person clears the kill",
		Long: `Kill calls all executors in parallel, and continues if one fails. The baseline decides everything, starting with the next
request and even after a restart, until greenlight gate clear. It needs no confirmation.

It exits 1 if an executor does not confirm the kill, and names it. Without this command, the file gate.kill in the state folder
of executor and the signal SIGUSR1 do the same.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return console.Usagef("give --reason: the person who clears the kill must know what it was for")
			}
			brake := fleetgroup.Brake{Kind: fleetv1.StopKind_STOP_KIND_KILL, Reason: reason, Say: c.Say}
			return useExecutors(cmd.Context(), &p, brake, func(ctx context.Context, all []fleet.Executor, _ *fleetgroup.Group) error {
				if failed := gatekeeper.Lines(c.Out, gatekeeper.Kill(ctx, all, reason)); failed != nil {
					return console.WithHint(errors.New("not every executor confirmed the kill: see above"),
						"create the file gate.kill in the state folder of that executor, or send the process SIGUSR1; its lease lapses in any case")
				}
				return nil
			})
		},
	}
	p.DeclareExecutors(cmd.Flags(), c, flags.BrakeTimeout)
	p.DeclareFleet(cmd.Flags(), true)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people and the audit log")
	return cmd
}

func gateClearCommand(c console.Console) *cobra.Command {
	var p flags.Pair
	var reason, phrase, state string
	var latches []string
	cmd := &cobra.Command{
		Use: "clear --latch LATCH --reason TEXT [--confirm PHRASE]", Short: "Clear a kill, an alarm or a spent budget",
		Long: `Clear clears latches: killed, quality_alarm, drift_alarm, budget_spent. Without --confirm it shows who set them, when and why,
and prints the phrase that clears exactly these. A kill cannot be cleared while the file gate.kill exists. The gate stays
shut: greenlight gate plan and gate start open it again.

With --fleet and --fleet-group, killed is also the kill that a group stores and that kills every executor that joins. It is
removed last, and only if no executor failed.

It exits 1 if an executor does not clear its latches.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(latches) == 0 || strings.TrimSpace(reason) == "" {
				return console.Usagef("give --latch, and --reason: what was found and done")
			}
			for _, l := range latches {
				if _, err := gatekeeper.ParseLatch(l); err != nil {
					return console.Usage(err)
				}
			}
			return refusedGate(useExecutors(cmd.Context(), &p, fleetgroup.Brake{}, func(ctx context.Context, all []fleet.Executor, g *fleetgroup.Group) error {
				clearing, err := gatekeeper.NewClearing(ctx, all, g, latches, reason)
				if err != nil {
					return err
				}
				if phrase == "" {
					ticket, err := gatekeeper.State(state).AskClear(clearing, confirmation.Validity)
					if err != nil {
						return err
					}
					for _, set := range clearing.Set {
						c.Say("latch     %s: %s, at %s", set.Executor, set.Latch, set.Time.UTC().Format(time.RFC3339))
					}
					if clearing.Kill != "" {
						c.Say("latch     group %s stores a kill", g.Group())
					}
					c.Say("\nNothing was changed. To clear %s, until %s, once (%s), repeat the command with", text.Count(len(clearing.Set), "latch"), ticket.ExpiryTime.Format("15:04 UTC"), confirmation.Onay)
					c.Say("--confirm %s", console.Quoted(ticket.Phrase))
					return nil
				}
				done, err := gatekeeper.State(state).Clear(ctx, all, g, clearing, phrase)
				if err != nil {
					return err
				}
				if failed := gatekeeper.Lines(c.Out, done); failed != nil {
					return errors.New("not every executor cleared its latches: see above")
				}
				return nil
			}))
		},
	}
	fs := cmd.Flags()
	p.DeclareExecutors(fs, c, flags.ControlTimeout)
	p.DeclareFleet(fs, true)
	fs.StringSliceVar(&latches, "latch", nil, "what to clear: killed, quality_alarm, drift_alarm, budget_spent")
	fs.StringVar(&reason, "reason", "", "what was found and done, for the audit log")
	fs.StringVar(&phrase, "confirm", "", "the phrase that this command printed")
	declareGateState(fs, &state)
	return cmd
}
