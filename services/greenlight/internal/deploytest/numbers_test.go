package deploytest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// The owners of the numbers: pkg/gate has the SLOs and the abort limits, pkg/drift the bands of PSI, and pkg/shadow the
// deadline of a shadow. Everything else repeats them, and is compared with them here.
var (
	policy   = gate.DefaultPolicy()
	limits   = drift.DefaultLimits()
	deadline = float64(shadow.DefaultTimeout / time.Millisecond)
)

// slo returns the threshold of a rule.
func slo(t *testing.T, rules []gate.Rule, name string) float64 {
	t.Helper()
	i := slices.IndexFunc(rules, func(r gate.Rule) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("no rule %q", name)
	}
	return rules[i].Threshold
}

// limit is a number that an alert compares with.
type limit struct {
	op    gate.Op
	value float64
	unit  gate.Unit
}

// words returns the number as texts have it: "95 %", "80 ms", "0.2".
func (l limit) words() string {
	_, number, _ := strings.Cut(gate.Rule{Op: l.op, Threshold: l.value, Unit: l.unit}.Target(), " ")
	return number
}

// comparison is a comparison with a number in an expression.
var comparison = regexp.MustCompile(`(==|[<>]=?) (\d[\d.]*)`)

// compares reports whether the expression has the comparison.
func compares(t *testing.T, expr string, op gate.Op, value float64) bool {
	t.Helper()
	return slices.ContainsFunc(comparison.FindAllStringSubmatch(expr, -1), func(m []string) bool {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		return m[1] == string(op) && v == value
	})
}

// Each of these alerts exists with its duration and severity, and with the number of its owner: in the expression, in
// the description where it has one, and in the first paragraph of the runbook.
func TestNamedAlerts(t *testing.T) {
	_, alerts := shipped(t)
	below, above := gate.Below, gate.Above
	for name, want := range map[string]struct {
		limit              limit
		duration, severity string
	}{
		"MLShadowMatchLow":        {limit{below, slo(t, gate.Shadow(), gate.ShadowMatch), gate.Ratio}, "10m", "warning"},
		"MLShadowErrorRateHigh":   {limit{above, slo(t, gate.Shadow(), gate.ShadowErrorRate), gate.Ratio}, "5m", "warning"},
		"MLPredictLatencyP95High": {limit{above, slo(t, gate.Smoke(), gate.SmokeP95), gate.Millis}, "10m", "warning"},
		"MLShadowLatencyP95High":  {limit{above, deadline, gate.Millis}, "10m", "warning"},
		"MLShadowCoverageLow":     {limit{below, policy.SLO.Coverage, gate.Ratio}, "10m", "warning"},
		"MLPSIWarning":            {limit{above, drift.WarningAbove, gate.Score}, "1h", "warning"},
		"MLPSICritical":           {limit{above, drift.CriticalAbove, gate.Score}, "1h", "critical"},
		"MLModelErrorsHigh":       {limit{above, policy.SLO.ErrorRate, gate.Ratio}, "5m", "warning"},
		"MLBaselineSlow":          {limit{above, gate.BaselineMS, gate.Millis}, "10m", "critical"},

		"MLGateFallbacks": {limit{above, gate.MaxFallbacks, gate.Ratio}, "10m", "warning"},
		"MLGateBudget":    {limit{above, gate.BudgetWarning, gate.Ratio}, "1m", "warning"},

		"MLCanaryPredictLatencyP95High": {limit{above, policy.Abort.P95MS, gate.Millis}, "1m", "critical"},
		"MLCanaryShadowMatchLow":        {limit{below, policy.Abort.MatchRate, gate.Ratio}, "1m", "critical"},
		"MLCanaryShadowErrorRateHigh":   {limit{above, policy.Abort.ErrorRate, gate.Ratio}, "1m", "critical"},
		"MLCanaryShadowCoverageLow":     {limit{below, policy.Abort.Coverage, gate.Ratio}, "1m", "critical"},
		"MLCanaryModelErrorsHigh":       {limit{above, policy.SLO.ErrorRate, gate.Ratio}, "1m", "critical"},
		"MLCanaryPSIWarning":            {limit{above, drift.WarningAbove, gate.Score}, "5m", "warning"},
		"MLCanaryPSICritical":           {limit{above, drift.CriticalAbove, gate.Score}, "5m", "info"},

		// The default of --min-fleet.
		"MLFleetMissing": {limit{below, 0.9, gate.Ratio}, "5m", "warning"},

		// These have no limit of the gate.
		"MLFleetPartition":      {limit{"==", 0, ""}, "2m", "warning"},
		"MLFleetRefused":        {limit{above, 0, ""}, "", "critical"},
		"MLEngineDown":          {limit{"==", 0, ""}, "2m", "critical"},
		"MLShadowBreakerOpen":   {limit{"==", 0, ""}, "5m", "warning"},
		"MLShadowBreakerBlind":  {limit{"==", 1, ""}, "1h", "info"},
		"MLEvidenceWriteFailed": {limit{above, 0, ""}, "", "critical"},
	} {
		got, found := alerts[name]
		if !found {
			t.Errorf("%s is missing", name)
			continue
		}
		if !compares(t, got.Expr, want.limit.op, want.limit.value) || got.For != want.duration || got.Labels["severity"] != want.severity {
			t.Errorf("%s: got %q for %q as %q, want %+v", name, got.Expr, got.For, got.Labels["severity"], want)
		}
		aborts := strings.HasPrefix(name, "MLCanary") && want.severity == "critical"
		if (got.Labels["action"] == "abort") != aborts {
			t.Errorf("%s: action %q", name, got.Labels["action"])
		}
		if want.limit.unit == "" {
			continue
		}
		words := want.limit.words()
		if d := got.Annotations["description"]; regexp.MustCompile(`(above|below|is|needs) \d`).MatchString(d) && !mentions(d, words) {
			t.Errorf("%s: the description lacks %s: %s", name, words, d)
		}
		if first := strings.Split(text(t, "deploy/runbooks/"+name+".md"), "## ")[0]; !mentions(first, words) {
			t.Errorf("the runbook of %s lacks %s: %s", name, words, first)
		}
	}
	if missing := alerts["MLSeriesMissing"]; !strings.Contains(missing.Expr, "absent(up") || missing.For != "5m" || missing.Labels["severity"] != "warning" {
		t.Errorf("MLSeriesMissing: %+v", missing)
	}
}

// mentions reports whether the text has the number, and not as a part of a longer one.
func mentions(text, number string) bool {
	return regexp.MustCompile(`(^|[^\d.])` + regexp.QuoteMeta(number) + `($|[^\d.]|\.\D|\.$)`).MatchString(text)
}

// text returns a file of the repository with one space between words.
func text(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(deploy, "..", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(string(raw), "//", "")), " ")
}

// The rules judge an index of as many rows and days as the gates do, and the canary's alerts as many comparisons as its
// controller does.
func TestRulesHaveTheFloorsOfTheGate(t *testing.T) {
	recorded, alerts := shipped(t)
	judged, q99 := recorded["ml:psi_overall:judged7d"].Expr, recorded["ml:psi_overall:null_q99"].Expr
	rows, days := float64(limits.MinRows), float64(limits.MinDays)
	for _, have := range []struct {
		expr  string
		floor float64
	}{
		{judged, rows},
		{judged, days},
		{q99, days},
		{alerts["MLCanaryShadowMatchLow"].Expr, float64(policy.MinComparisons)},
		{alerts["MLCanaryShadowCoverageLow"].Expr, float64(policy.MinComparisons)},
	} {
		if !compares(t, have.expr, gate.AtLeast, have.floor) {
			t.Errorf("got %q, want a floor of %v", have.expr, have.floor)
		}
	}
}

// Documents, help, runbooks and the contract have the numbers of their owners.
func TestTextsHaveTheNumbersOfTheGate(t *testing.T) {
	moderate, warning, critical := index(drift.ModerateFrom), index(drift.WarningAbove), index(drift.CriticalAbove)
	abort, promotion := policy.Abort, policy.Promotion
	offline := fmt.Sprintf("AUC >= %v and P@20 >= %v", promotion.AUC, promotion.PrecisionAt20)
	for path, want := range map[string][]string{
		"docs/concepts.md": {
			fmt.Sprintf("stable below %s, moderate up to %s, warning up to %s and critical above", moderate, warning, critical),
			fmt.Sprintf("fewer than %d rows or five days", limits.MinRows), offline,
			fmt.Sprintf("threshold (%s overall, %s for a feature)", index(limits.Overall), index(limits.Feature)),
			fmt.Sprintf("differs from the baseline by at most %v", gate.MatchTolerance), fmt.Sprintf("It may take %v ms", deadline),
		},
		"docs/operator.md": {
			fmt.Sprintf("p95 above %v ms, errors above %s, matches below %s, coverage below %s", abort.P95MS, percent(abort.ErrorRate), percent(abort.MatchRate), percent(abort.Coverage)),
			fmt.Sprintf("at least %s of its sampled shadows", percent(policy.SLO.Coverage)), fmt.Sprintf("it has %d comparisons", policy.MinComparisons),
			fmt.Sprintf("match rate >= %s", percent(policy.SLO.MatchRate)), fmt.Sprintf("error rate < %s", percent(policy.SLO.ErrorRate)),
			fmt.Sprintf("p95 latency < %v ms", policy.SLO.P95MS), fmt.Sprintf("coverage >= %s", percent(policy.SLO.Coverage)),
			fmt.Sprintf("PSI overall < %s", index(promotion.PSI)),
			fmt.Sprintf("the baseline decides more than %s of what the model may", percent(gate.MaxFallbacks)),
			fmt.Sprintf("more than %s of what it may change in an hour", percent(gate.BudgetWarning)),
			fmt.Sprintf("the overall index is above %s and above its noise (`drift_alarm`)", critical),
		},
		"docs/quant.md": {fmt.Sprintf("AUC must be >= %v and P@20 >= %v", promotion.AUC, promotion.PrecisionAt20)},
		"docs/reference/flags.md": {
			fmt.Sprintf("when the overall index stays above %s and", critical), fmt.Sprintf("consecutive hours above %s after which", critical),
			fmt.Sprintf("threshold (%s overall, %s for a feature)", index(limits.Overall), index(limits.Feature)),
			fmt.Sprintf("fewer than %d rows or %d days", limits.MinRows, limits.MinDays), offline,
		},
		"docs/reference/lab.md": {
			fmt.Sprintf("PSI > %s", index(limits.Overall)),
			fmt.Sprintf("A true rate of %s matches, or of %s errors", percent(policy.SLO.MatchRate), percent(abort.ErrorRate)),
			fmt.Sprintf("since the SLO is %s", percent(policy.SLO.ErrorRate)), fmt.Sprintf("once it has %d shadows", policy.MinComparisons),
		},
		"docs/reference/metrics.md": {fmt.Sprintf("an overall PSI above %s and", critical)},
		"deploy/runbooks/MLPSICritical.md": {
			fmt.Sprintf("on at least %d rows and %d days", limits.MinRows, limits.MinDays),
		},
		"deploy/runbooks/MLPSIWarning.md": {fmt.Sprintf("fewer than %d rows or %d days", limits.MinRows, limits.MinDays)},
		"deploy/runbooks/MLEngineDown.md": {fmt.Sprintf("errors above %s, coverage below %s", percent(abort.ErrorRate), percent(abort.Coverage))},
		"proto/greenlight/mlengine/v1/drift.proto": {
			fmt.Sprintf(`"stable" below %s, "moderate" up to %s, "warning" up to %s, "critical" above`, moderate, warning, critical),
		},
		"proto/greenlight/executor/v1/outcome.proto": {
			fmt.Sprintf("within %v of the baseline", gate.MatchTolerance), fmt.Sprintf("within its %v ms", deadline),
		},
	} {
		have := text(t, path)
		for _, sentence := range want {
			if !strings.Contains(have, sentence) {
				t.Errorf("%s lacks %q", path, sentence)
			}
		}
	}
}

// The colours and lines of the dashboard change at the numbers of their owners.
func TestDashboardHasTheNumbersOfTheGate(t *testing.T) {
	bands := []float64{drift.WarningAbove, drift.CriticalAbove}
	want := map[string]struct {
		series string // empty for the panel itself
		edges  []float64
		says   []string
	}{
		"Is the baseline affected?":      {"p99 ms", []float64{gate.BaselineMS / 2., gate.BaselineMS}, []string{fmt.Sprintf("the limit of %v ms", gate.BaselineMS)}},
		"Is the shadow seen?":            {"coverage", []float64{policy.Abort.Coverage, policy.SLO.Coverage}, []string{"The SLO is " + percent(policy.SLO.Coverage), "aborts below " + percent(policy.Abort.Coverage)}},
		"Does it agree?":                 {"", []float64{policy.Abort.MatchRate, policy.SLO.MatchRate}, []string{"The SLO is " + percent(policy.SLO.MatchRate), "aborts below " + percent(policy.Abort.MatchRate)}},
		"Match rate":                     {"", []float64{policy.SLO.MatchRate}, []string{"the SLO, " + percent(policy.SLO.MatchRate)}},
		"ml-engine latency":              {"", []float64{slo(t, gate.Smoke(), gate.SmokeP95)}, []string{fmt.Sprintf("a p95 of %v ms", slo(t, gate.Smoke(), gate.SmokeP95))}},
		"Latency of shadow and baseline": {"", []float64{deadline}, []string{fmt.Sprintf("with %v ms", deadline)}},
		"Has the input drifted?": {"PSI", bands, []string{
			fmt.Sprintf("Below %v stable, up to %v moderate, above %v warning, above %v critical", drift.ModerateFrom, drift.WarningAbove, drift.WarningAbove, drift.CriticalAbove),
		}},
		"PSI by feature":     {"", bands, []string{fmt.Sprintf("warning above %v, critical above %v", drift.WarningAbove, drift.CriticalAbove)}},
		"Budget of the hour": {"", []float64{gate.BudgetWarning}, []string{"the line is at " + percent(gate.BudgetWarning)}},
		"Delta":              {"", nil, []string{fmt.Sprintf("A match is at most %v", gate.MatchTolerance)}},
	}
	for _, p := range board(t).Panels {
		w, found := want[p.Title]
		if !found {
			continue
		}
		delete(want, p.Title)
		if got := p.edges(w.series); !slices.Equal(got, w.edges) {
			t.Errorf("%q: %q changes at %v, want %v", p.Title, w.series, got, w.edges)
		}
		for _, sentence := range w.says {
			if !strings.Contains(p.Description, sentence) {
				t.Errorf("%q: the description lacks %q: %s", p.Title, sentence, p.Description)
			}
		}
	}
	for title := range want {
		t.Errorf("the dashboard has no panel %q", title)
	}
}

// percent and index format a share and an index as texts have them: "95 %", "0.2".
func percent(v float64) string { return limit{gate.Below, v, gate.Ratio}.words() }
func index(v float64) string   { return limit{gate.Below, v, gate.Score}.words() }

// edges returns the values at which the colour of a series changes, or that of the whole panel.
func (p panel) edges(series string) (values []float64) {
	thresholds := p.FieldConfig.Defaults["thresholds"]
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if series != "" && o.Matcher.Options == series && property.ID == "thresholds" {
				thresholds = property.Value
			}
		}
	}
	of, _ := thresholds.(map[string]any)
	steps, _ := of["steps"].([]any)
	for _, step := range steps {
		if v, is := step.(map[string]any)["value"].(float64); is {
			values = append(values, v)
		}
	}
	return values
}
