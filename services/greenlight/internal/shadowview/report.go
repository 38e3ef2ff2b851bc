package shadowview

import (
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Report prints a table of the model under trial and its challengers, over the rolling window of executor's report.
func Report(r *executorv1.GetShadowReportResponse, out io.Writer) error {
	t := table.New("shadow", "model", ">compared", ">match rate", "95 % bounds", ">coverage", ">error rate", ">|delta| p95", ">ms p95", "breaker", "noise floor")
	row := func(name, version string, w *executorv1.ShadowWindow, b *executorv1.BreakerStatus, noise string) {
		bounds, delta, latency := "-", "-", "-"
		if w.GetComparisons() > 0 {
			bounds = interval(w.MatchRateLow, w.MatchRateHigh)
			delta, latency = fmt.Sprintf("%.3f", w.GetAbsDelta().GetP95()), fmt.Sprintf("%.1f", w.GetLatencyMs().GetP95())
		}
		t.Row(name, orNone(text.Clean(version, maxVersion)), w.GetComparisons(), rate(w.MatchRate), bounds, rate(w.Coverage), rate(w.ErrorRate), delta, latency, fleet.Breaker(b.GetState()), noise)
	}
	row("model under trial", r.GetShadowVersion(), r.GetWindow(), r.GetBreaker(), "-")
	for _, c := range r.GetChallengers() {
		row(c.GetName(), c.GetModelVersion(), c.GetWindow(), c.GetBreaker(), noise(c))
	}
	return t.Text(out)
}

// maxVersion bounds the version of a model, which an engine reports, in bytes.
const maxVersion = 64

// noise describes the noise floor of a challenger.
func noise(c *executorv1.Challenger) string {
	f := c.GetNoiseFloor()
	switch {
	case f == nil:
		return "-"
	case f.MismatchRate == nil:
		return "no pairs yet"
	}
	return fmt.Sprintf("%s (%s) of %s", rate(f.MismatchRate), interval(f.MismatchRateLow, f.MismatchRateHigh), text.Count(f.GetComparisons(), "pair"))
}

func interval(low, high *float64) string { return rate(low) + " to " + rate(high) }

func rate(v *float64) string {
	if v == nil {
		return "-"
	}
	return gate.Ratio.Format(*v)
}
