package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func canaryCommand(c Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "canary", Short: "Run a model's shadows on a growing share of the requests, and stop when they do badly",
		Long: `Canary lets a model observe a growing share of the requests: 5, 10, 25, 50 and 100 %, for 30 minutes each. Whatever
happens, the decision that leaves an executor is the baseline's. A phase passes when its time is over, it has enough
comparisons and every target is met. A rule of abortion that holds, at any time, sets 0 % at once.

  greenlight canary preflight   is the pair fit to be judged?
  greenlight canary plan        what would be done; prints the phrase that confirms it
  greenlight canary start --confirm "<phrase>"
  greenlight canary status      from anywhere, at any time
  greenlight canary abort       0 % now

An executor holds a share only while the canary renews its lease. A canary that dies, hangs or is cut off means 0 %, and
"greenlight canary start --resume" goes on at the phase that it was in.`,
		Args: NoArgs,
	}
	cmd.AddCommand(canaryPreflightCommand(c), canaryPlanCommand(c), canaryStartCommand(c), canaryStatusCommand(c), canaryAbortCommand(c))
	return cmd
}

// canaryTimeout is how long a service may take to say what is there.
const canaryTimeout = 20 * time.Second

// canaryFlags say what a canary is run on.
type canaryFlags struct {
	pairFlags

	evidence, models, state string
}

func (f *canaryFlags) declare(fs *pflag.FlagSet, c Console) {
	f.pairFlags.declare(fs, c, localEngine, localExecutor, canaryTimeout)
	DeclareEvidence(fs, &f.evidence)
	fs.StringVar(&f.models, "models", "models", "registry folder, in which the model has its own offline evaluation; without one, that in --evidence counts")
	declareCanaryState(fs, &f.state)
}

// canaryState is the default folder of the plans, the phrases and the journals.
var canaryState = filepath.Join("var", "canary")

func declareCanaryState(fs *pflag.FlagSet, state *string) {
	fs.StringVar(state, "state", canaryState, "folder of the plans, the phrases and the journals")
}

// stateFlag is --state for another command; empty for the default.
func stateFlag(state string) string {
	if state == canaryState {
		return ""
	}
	return flagged("state", state)
}

// policyFlags are the policy, and what is often changed in it.
type policyFlags struct {
	file                     string
	phases                   []float64
	phaseDuration, holdLimit time.Duration
	minComparisons           uint64

	changed func(name string) bool
}

func (f *policyFlags) declare(fs *pflag.FlagSet) {
	p := gate.DefaultPolicy()
	fs.StringVar(&f.file, "policy", "", "file with the policy, YAML; without it, the built-in one")
	f.phases = p.Phases
	fs.Var(percents{&f.phases}, "phases", "shares of the requests that get a shadow, in percent, rising")
	fs.DurationVar(&f.phaseDuration, "phase-duration", time.Duration(p.PhaseDuration), "how long a phase takes at least")
	fs.DurationVar(&f.holdLimit, "hold-limit", time.Duration(p.HoldLimit), "how much longer a phase may take that cannot be judged")
	fs.Uint64Var(&f.minComparisons, "min-comparisons", p.MinComparisons, "how many comparisons a phase takes at least")
	f.changed = fs.Changed
}

// policy is the file's, or the default, with what the flags change in it.
func (f *policyFlags) policy() (gate.Policy, error) {
	p, err := readPolicy(f.file)
	if err != nil {
		return p, err
	}
	if f.changed("phases") {
		p.Phases = f.phases
	}
	if f.changed("phase-duration") {
		p.PhaseDuration = gate.Duration(f.phaseDuration)
	}
	if f.changed("hold-limit") {
		p.HoldLimit = gate.Duration(f.holdLimit)
	}
	if f.changed("min-comparisons") {
		p.MinComparisons = f.minComparisons
	}
	if err := p.Validate(); err != nil {
		return p, usageError{err}
	}
	return p, nil
}

// survey connects to the pair and reads what there is.
func (f *canaryFlags) survey(ctx context.Context, use func(context.Context, *fleet.Services, *canary.Inspection) error) error {
	return f.use(ctx, func(ctx context.Context, services *fleet.Services) error {
		return use(ctx, services, canary.Inspect(ctx, services, canary.Target{Evidence: f.evidence, Models: f.models}))
	})
}

// refusedCanary adds to a refusal what to do about it.
func refusedCanary(err error) error {
	if hint := canary.Hint(err); err != nil && hint != "" {
		return WithHint(err, "%s", hint)
	}
	return err
}

const preflightSchema = "greenlight/canary_preflight/v1"

// preflightFile is the body of canary_preflight.json.
type preflightFile struct {
	Result    gate.Verdict  `json:"result"`
	Checks    []gate.Result `json:"checks"`
	Executors []string      `json:"executors"`
	Engines   []string      `json:"engines"`
	// PSI is the overall index of the last 7 days, monitored and not judged; null when it is not known, for which PSIReason
	// says why.
	PSI       *float64 `json:"psi"`
	PSIReason string   `json:"psi_reason"`
}

func canaryPreflightCommand(c Console) *cobra.Command {
	var f canaryFlags
	cmd := &cobra.Command{
		Use: "preflight", Short: "Say whether the pair is fit for a canary",
		Long: `Preflight asks every service what it does, and judges whether a canary of it would mean anything: one model, one baseline,
passed offline, nobody else's canary, closed breakers, clocks that agree, traffic. It changes nothing, writes
canary_preflight.json, and exits 3 when something is not so. Drift is shown and blocks nothing.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.survey(cmd.Context(), func(_ context.Context, _ *fleet.Services, in *canary.Inspection) error {
				card := canary.Preflight(in)
				body := preflightFile{Result: card.Verdict(), Checks: card.Results, Executors: f.Executors, Engines: f.Engines, PSI: in.PSI}
				if in.PSIErr != nil {
					body.PSIReason = in.PSIErr.Error()
				}
				header := evidence.Header{Schema: preflightSchema, Source: evidence.Live, Inputs: in.Offline.Inputs, Git: Revision()}
				if served := in.Models(); len(served) > 0 {
					header.Model = &served[0]
				}
				if err := f.keep(func(store *evidence.Store) error {
					return store.WriteJSON("canary_preflight.json", header, body)
				}); err != nil {
					return err
				}
				c.Say("drift     %s; monitored, blocks nothing", psiText(in.PSI, body.PSIReason))
				c.Say("evidence  %s\n", filepath.Join(f.evidence, "canary_preflight.json"))
				return c.Verdict(card)
			})
		},
	}
	f.declare(cmd.Flags(), c)
	return cmd
}

func (f *canaryFlags) keep(write func(*evidence.Store) error) error {
	return keepEvidence(f.evidence, write)
}

// keepEvidence opens the folder, writes, and closes it.
func keepEvidence(folder string, write func(*evidence.Store) error) error {
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		return err
	}
	return errors.Join(write(store), store.Close())
}

func psiText(psi *float64, reason string) string {
	if psi == nil {
		return "PSI is not known: " + reason
	}
	return fmt.Sprintf("PSI %.3f", *psi)
}

// unstopped is what to do about executors that were not stopped.
func unstopped(err error) string {
	hint := fleet.Hint(err)
	if hint == "" {
		hint = "look at the log of the executor"
	}
	return hint + ". Stopping the controller of the canary helps where its share is held by a lease, which lapses; a share that was set without a lease stays"
}

func canaryAbortCommand(c Console) *cobra.Command {
	var p pairFlags
	var reason string
	cmd := &cobra.Command{
		Use: "abort", Short: "Set 0 % on every executor now, and read it back",
		Long: `Abort sets the share of shadows to 0 % on every executor and reads it back. It ends any lease: the canary that held it aborts
at its next renewal. It needs no confirmation and no state folder. It exits 1 when an executor has not obeyed; greenlight
rollback also takes the model back.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.use(cmd.Context(), func(ctx context.Context, services *fleet.Services) error {
				var failed error
				for _, stop := range canary.Abort(ctx, services.Executors, reason) {
					if stop.Err != nil {
						c.Say("executor  %s NOT DONE: %v", stop.Addr, fleet.Plain(stop.Err))
						failed = errors.Join(failed, stop.Err)
						continue
					}
					c.Say("executor  %s shadows nothing, read back in %.1f ms", stop.Addr, float64(stop.Took)/float64(time.Millisecond))
				}
				if failed != nil {
					return WithHint(errors.New("not every executor was stopped: see above"), "%s", unstopped(failed))
				}
				return nil
			})
		},
	}
	fs := cmd.Flags()
	p.declare(fs, c, nil, localExecutor, brakeTimeout)
	cmd.Flags().StringVar(&reason, "reason", "greenlight canary abort", "why, for the audit log")
	return cmd
}
