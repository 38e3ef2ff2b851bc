package canaryview

import (
	"fmt"
	"io"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// maxListed bounds the executors that a plan shows.
const maxListed = 20

// Plan writes what the plan would do.
func Plan(out io.Writer, p *canary.Plan, in *preflight.Inspection) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	policy := p.Policy
	shares := make([]string, len(policy.Phases))
	for i, share := range policy.Phases {
		shares[i] = fmt.Sprintf("%g", share)
	}
	line("model     %s, digest %.12s, against %s", p.Model.Version, p.Model.Digest, p.Baseline.Version)
	line("offline   %s (%s)", in.Offline.Result, text.Count(len(p.Inputs), "file"))
	line("drift     %s; monitored, blocks nothing", PSI(p.PSI, p.PSIReason))
	if p.Quality != nil {
		line("quality   %s", p.Quality.Line())
		line("          plan %.12s: labels from %s, horizon %v; a promotion needs PASS or BETTER under it", p.Quality.PlanDigest, p.Quality.LabelSource, p.Quality.Horizon())
	} else {
		line("quality   no verdict, so no promotion: %s", p.QualityReason)
		line("          --quality-cap and --quality-margin set one; greenlight quality --feature-log suggests both from earlier days")
	}
	if f := p.Fleet; f != nil {
		line("fleet     group %s: %s, 0 %% when the canary has ended, however it ends; a phase needs %g %% of those present at its start", f.Group,
			text.Count(len(p.Executors), "executor"), percentOf(f.MinFleet))
	}
	for i, addr := range p.Executors[:min(len(p.Executors), maxListed)] {
		r := in.Executors[i].Rollout.GetRollout()
		line("executor  %s shadows %g %% now; 0 %% when the canary has ended, however it ends", addr, r.GetPercent())
	}
	if more := len(p.Executors) - maxListed; more > 0 {
		line("          and %d more", more)
	}
	counts := "the executors' reports"
	if p.URL != "" {
		counts = fmt.Sprintf("%s {%s}", p.URL, p.Match)
	}
	line("counts    %s, every %s; requests are %s", counts, p.Interval, p.Source)
	line("phases    %s %%, %s each and at least %s, held for at most %s", strings.Join(shares, ", "), policy.PhaseDuration, text.Count(policy.MinComparisons, "comparison"), policy.HoldLimit)
	matched := fmt.Sprintf("match >= %g %%, ", percentOf(policy.SLO.MatchRate))
	aborted := fmt.Sprintf("match < %g %%, ", percentOf(policy.Abort.MatchRate))
	if policy.Improves() {
		matched, aborted = "", ""
		line("policy    %s: the match rate is not binding", policy.Kind)
	}
	if p.Quality != nil {
		aborted += "live quality FAIL, "
	}
	if policy.Tolerance() != gate.MatchTolerance || policy.DecisionThreshold != 0 {
		line("compare   a match differs by at most %g, decisions are judged at %s", policy.Tolerance(), threshold(policy.DecisionThreshold))
	}
	line("pass      p95 < %g ms, errors < %g %%, %scoverage >= %g %%", policy.SLO.P95MS, percentOf(policy.SLO.ErrorRate), matched, percentOf(policy.SLO.Coverage))
	line("abort     p95 > %g ms, errors > %g %%, %scoverage < %g %%, or a test at alpha %g", policy.Abort.P95MS, percentOf(policy.Abort.ErrorRate), aborted, percentOf(policy.Abort.Coverage), policy.Alpha)
	line("lease     %s", policy.Lease)
}

// threshold returns a decision threshold as text.
func threshold(v float64) string {
	if v == 0 {
		return "no threshold"
	}
	return fmt.Sprintf("%g", v)
}

// percentOf returns a ratio in percent, without the rounding noise of binary fractions.
func percentOf(ratio float64) float64 { return float64(int64(ratio*1e8+0.5)) / 1e6 }

// PSI returns the overall index as text, or the reason why it is unknown.
func PSI(psi *float64, reason string) string {
	if psi == nil {
		return "PSI is not known: " + reason
	}
	return fmt.Sprintf("PSI %.3f", *psi)
}
