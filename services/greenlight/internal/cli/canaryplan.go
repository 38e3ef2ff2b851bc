package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// canaryPlan has the flags of greenlight canary plan.
type canaryPlan struct {
	canaryFlags
	flags.Policy

	prometheus, source string
	metrics            fleet.PrometheusOptions
	interval, expires  time.Duration
	quality            canary.QualityOptions
	labels             string
}

const (
	// pollInterval is the default time between two polls of a live canary.
	pollInterval = 5 * time.Second
	// pollsPerPhase is the smallest number of polls in a phase, unless the interval is given.
	pollsPerPhase = 10
)

func canaryPlanCommand(c console.Console) *cobra.Command {
	var p canaryPlan
	cmd := console.Command("plan", "Show what a canary would do, and print the phrase that confirms it",
		`Plan reads the current state, writes the plan of a canary, and prints the phrase that confirms exactly this plan: these
executors, this model, this baseline, this evidence, this drift, this policy. The phrase works once, and for as long as
--expires says. Until the start, the verdict on drift must not change, and a judged index may change by at most 0.05 or 10 %,
whichever is more. Plan changes nothing on the services.

It also plans the verdict on live quality: whether the model is at least as good as the baseline, judged by real outcomes. This
quality plan comes from the model's own evaluation against this baseline, or from --quality-cap and --quality-margin. It is
fixed before the run; a promotion needs PASS or BETTER under it. Plan prints how long such a verdict takes.

The counts come from the executors' reports or, with --prometheus, from the Prometheus series that --match selects.

With --fleet and --fleet-group, the canary runs on the executors of a group. They may come and go: --min-fleet is the
percentage of those present at the start of a phase that must report during it.`,
		func(ctx context.Context) error {
			policy, err := p.validate()
			if err != nil {
				return err
			}
			return p.inspect(ctx, func(ctx context.Context, _ *fleet.Services, in *preflight.Inspection) error {
				return refusedCanary(p.plan(ctx, c, policy, in))
			})
		})
	fs := cmd.Flags()
	p.canaryFlags.declare(fs, c)
	p.Policy.Declare(fs)
	fs.StringVar(&p.prometheus, "prometheus", "", "URL of a Prometheus server to read the counts from; without it, they come from the executors")
	fs.StringVar(&p.metrics.TokenFile, "prometheus-token-file", "", "file with a bearer token for --prometheus; canary start reads it again")
	fs.StringVar(&p.metrics.BasicFile, "prometheus-basic-file", "", "file with user:password for --prometheus; canary start reads it again")
	fs.StringVar(&p.metrics.CA, "prometheus-ca", "", "file with the CA certificates to trust for --prometheus; by default those of the system")
	fs.StringVar(&p.metrics.Match, "match", fleet.DefaultMatch, "PromQL label matchers that select the executors' series")
	fs.StringVar(&p.source, "source", string(evidence.Live), "where the requests come from: live, replay or simulated; only a live run counts for a promotion")
	fs.DurationVar(&p.interval, "interval", pollInterval, "time between two polls; the default is at most a tenth of a phase")
	fs.Float64Var(&p.quality.Cap, "quality-cap", 0, "disagreement cap of the quality plan, up to 1; 0 takes it from the model's own evaluation")
	fs.Float64Var(&p.quality.Margin, "quality-margin", 0, "margin of the quality plan, in units of the Brier loss; 0 takes it from the evaluation")
	fs.StringVar(&p.labels, "quality-labels", "", "where the labels come from: quotes (executors compute them) or reported; by default quotes if the model has the built-in label")
	fs.DurationVar(&p.expires, "expires", confirmation.Validity, "how long the phrase works")
	return cmd
}

func (p *canaryPlan) validate() (gate.Policy, error) {
	policy, err := p.Policy.Read()
	p.quality.Labels = outcome.LabelSource(p.labels)
	if !p.Changed("interval") { // a short phase still needs several polls
		p.interval = min(p.interval, time.Duration(policy.PhaseDuration)/pollsPerPhase)
	}
	switch {
	case err != nil:
		return policy, err
	case p.Fleet.Given() && p.prometheus != "":
		return policy, console.Usagef("with --fleet the counts come from the executors' reports: remove --prometheus")
	case !p.Fleet.Given() && p.Changed("min-fleet"):
		return policy, console.Usagef("--min-fleet needs --fleet")
	case len(p.Executors) == 0 || len(p.Engines) == 0:
		return policy, console.Usagef("want at least one --executor and one --engine")
	case p.interval <= 0 || p.interval > time.Duration(policy.PhaseDuration):
		return policy, console.Usagef("--interval %s: want more than 0 and at most the %s of a phase", p.interval, policy.PhaseDuration)
	case p.expires < time.Minute:
		return policy, console.Usagef("--expires %s: want at least 1m", p.expires)
	case p.quality.Cap < 0 || p.quality.Cap > 1 || p.quality.Margin < 0 || p.quality.Margin >= 1:
		return policy, console.Usagef("--quality-cap %v --quality-margin %v: want 0 to 1", p.quality.Cap, p.quality.Margin)
	case !slices.Contains([]outcome.LabelSource{"", outcome.Quotes, outcome.Reported}, p.quality.Labels):
		return policy, console.Usagef("--quality-labels %s: want %s or %s", p.labels, outcome.Quotes, outcome.Reported)
	case !evidence.Source(p.source).Valid():
		return policy, console.Usagef("--source %s: want live, replay or simulated", p.source)
	case p.prometheus != "":
		if err := p.metrics.SetURL(p.prometheus); err != nil {
			return policy, console.Usage(err)
		}
		if _, err := fleet.NewPrometheus(p.metrics, len(p.Executors)); err != nil {
			return policy, console.Usage(err)
		}
	case p.metrics.TokenFile+p.metrics.BasicFile+p.metrics.CA != "":
		return policy, console.Usagef("--prometheus-token-file, --prometheus-basic-file and --prometheus-ca need --prometheus")
	}
	return policy, nil
}

func (p *canaryPlan) target(in *preflight.Inspection) canary.Target {
	t := canary.Target{Executors: in.Addresses(), Fleet: p.fleet(), Engines: p.Engines, Evidence: p.evidence, Models: p.models}
	if p.prometheus != "" {
		t.PrometheusOptions = p.metrics
	}
	return t
}

func (p *canaryPlan) plan(ctx context.Context, c console.Console, policy gate.Policy, in *preflight.Inspection) error {
	plan, err := canary.NewPlan(in, p.target(in), policy, p.interval, evidence.Source(p.source))
	if err != nil {
		return err
	}
	if err := plan.PlanQuality(in, p.quality); err != nil {
		return err
	}
	if err := errors.Join(canary.Free(in, ""), canary.Readable(ctx, plan)); err != nil {
		return err
	}
	state := canary.State(p.state)
	ticket, err := state.Issue(plan, p.expires)
	if err != nil {
		return err
	}
	canaryview.Plan(c.Out, plan, in)
	c.Say("plan      %s", state.PlanPath(ticket))
	if plan.Secret() {
		c.Say("note      the user and the password of --prometheus are not stored: canary start reads them only from --prometheus-basic-file")
	}
	c.Say("\nNothing was changed. To start it, until %s, once (%s, and 30dk is 30 minutes):", ticket.ExpiryTime.Format("15:04 UTC"), confirmation.Onay)
	c.Say("greenlight canary start --confirm %s%s%s", console.Quoted(ticket.Phrase), stateFlag(p.state), p.Again())
	return nil
}
