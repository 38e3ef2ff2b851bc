package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// canaryPlan is what a plan is made of.
type canaryPlan struct {
	canaryFlags
	policyFlags

	prometheus, match, source string
	interval, expires         time.Duration
}

const (
	// lookInterval is the time between two looks at a live canary.
	lookInterval = 5 * time.Second
	// looksPerPhase is how many looks a phase has at least, unless the interval is given.
	looksPerPhase = 10
	// phraseValidity is how long a phrase works: a decision is about what is there now.
	phraseValidity = 30 * time.Minute
)

func canaryPlanCommand(c console) *cobra.Command {
	var p canaryPlan
	cmd := &cobra.Command{
		Use: "plan", Short: "Say what a canary would do, and print the phrase that confirms it",
		Long: `Plan reads what is there now, writes down what a canary would do, and prints the phrase that confirms exactly that: these
executors, this model, this baseline, this evidence, this drift, this policy. The phrase works once and for --expires. It
changes nothing on the services.

The counts come from the executors' own reports, or, with --prometheus, from the series of all replicas that --match
selects there.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			policy, err := p.validate()
			if err != nil {
				return err
			}
			return p.survey(cmd.Context(), func(ctx context.Context, _ canary.Pair, w *canary.World) error {
				return refusedCanary(p.plan(ctx, c, policy, w))
			})
		},
	}
	fs := cmd.Flags()
	p.canaryFlags.declare(fs, c)
	p.policyFlags.declare(fs)
	fs.StringVar(&p.prometheus, "prometheus", "", "URL of a Prometheus to read the counts from; without it, the executors are asked")
	fs.StringVar(&p.match, "match", canary.DefaultMatch, "what selects the executors' series there, as in PromQL's braces")
	fs.StringVar(&p.source, "source", string(evidence.Live), "where the requests come from: live, replay or simulated; only live counts for a promotion")
	fs.DurationVar(&p.interval, "interval", lookInterval, "time between two looks; a tenth of a phase when that is less and it is not given")
	fs.DurationVar(&p.expires, "expires", phraseValidity, "how long the phrase works")
	return cmd
}

func (p *canaryPlan) validate() (gate.Policy, error) {
	policy, err := p.policy()
	if !p.changed("interval") { // some looks at a phase that is short
		p.interval = min(p.interval, time.Duration(policy.PhaseDuration)/looksPerPhase)
	}
	switch {
	case err != nil:
		return policy, err
	case len(p.Executors) == 0 || len(p.Engines) == 0:
		return policy, usageError{errors.New("want at least one --executor and one --engine")}
	case p.interval <= 0 || p.interval > time.Duration(policy.PhaseDuration):
		return policy, usageError{fmt.Errorf("--interval %s: want more than 0 and at most the %s of a phase", p.interval, policy.PhaseDuration)}
	case p.expires < time.Minute:
		return policy, usageError{fmt.Errorf("--expires %s: want at least 1m", p.expires)}
	case !evidence.Source(p.source).Valid():
		return policy, usageError{fmt.Errorf("--source %s: want live, replay or simulated", p.source)}
	case p.prometheus != "":
		if _, err := canary.NewPrometheus(p.prometheus, p.match, len(p.Executors)); err != nil {
			return policy, usageError{err}
		}
	}
	return policy, nil
}

func (p *canaryPlan) target() canary.Target {
	t := canary.Target{Executors: p.Executors, Engines: p.Engines, Evidence: p.evidence, Models: p.models}
	if p.prometheus != "" {
		t.Prometheus, t.Match = p.prometheus, p.match
	}
	return t
}

func (p *canaryPlan) plan(ctx context.Context, c console, policy gate.Policy, w *canary.World) error {
	plan, err := canary.NewPlan(w, p.target(), policy, p.interval, evidence.Source(p.source))
	if err != nil {
		return err
	}
	if err := errors.Join(w.Free(""), canary.Readable(ctx, plan)); err != nil {
		return err
	}
	state := canary.State(p.state)
	ticket, err := state.Issue(plan, p.expires)
	if err != nil {
		return err
	}
	c.sayPlan(plan, w)
	c.say("plan      %s", state.PlanPath(ticket))
	c.say("\nNothing was changed. To start it, until %s, once:", ticket.ExpiryTime.Format("15:04 UTC"))
	command := "greenlight canary start --confirm " + quoted(ticket.Phrase)
	if p.changed("state") {
		command += " --state " + p.state
	}
	c.say("%s%s", command, p.again())
	return nil
}

// quoted is the text as one word for a shell.
func quoted(s string) string { return `"` + s + `"` }

// sayPlan says what would be done.
func (c console) sayPlan(p *canary.Plan, w *canary.World) {
	policy := p.Policy
	c.say("model     %s, digest %.12s, beside %s", p.Model.Version, p.Model.Digest, p.Baseline.Version)
	c.say("offline   %s (%d files)", w.Offline.Result, len(p.Inputs))
	c.say("drift     %s; monitored, blocks nothing", psiText(p.PSI, p.PSIReason))
	for i, addr := range p.Executors {
		r := w.Rollouts[i].GetRollout()
		c.say("executor  %s shadows %g %% now; 0 %% when the canary has ended, however it ends", addr, r.GetPercent())
	}
	counts := "the executors' reports"
	if p.Prometheus != "" {
		counts = fmt.Sprintf("%s {%s}", p.Prometheus, p.Match)
	}
	c.say("counts    %s, every %s; requests are %s", counts, p.Interval, p.Source)
	c.say("phases    %s %%, %s each and at least %d comparisons, held for at most %s", strings.ReplaceAll(percents{&policy.Phases}.String(), ",", ", "), policy.PhaseDuration, policy.MinComparisons, policy.HoldLimit)
	c.say("pass      p95 < %g ms, errors < %g %%, match >= %g %%", policy.SLO.P95MS, percentOf(policy.SLO.ErrorRate), percentOf(policy.SLO.MatchRate))
	c.say("abort     p95 > %g ms, errors > %g %%, match < %g %%, or a test at alpha %g", policy.Abort.P95MS, percentOf(policy.Abort.ErrorRate), percentOf(policy.Abort.MatchRate), policy.Alpha)
	c.say("lease     %s", policy.Lease)
}

// percentOf is a ratio in percent, without the noise of binary fractions.
func percentOf(ratio float64) float64 { return float64(int64(ratio*1e8+0.5)) / 1e6 }
