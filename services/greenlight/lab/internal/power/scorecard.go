package power

import (
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
)

// Scorecard judges the rows by the targets of their truths.
func Scorecard(rows []Row) gate.Scorecard {
	var rules []gate.Rule
	seen := make(map[string]gate.Observation)
	for _, r := range rows {
		if t := r.Truth.Target; t != Shown {
			rule := t.Rule
			rule.Name, rule.Threshold, rule.MinSamples = fmt.Sprintf(t.Name, r.Truth), r.Truth.Limit, minRuns
			rules, seen[rule.Name] = append(rules, rule), t.observe(r)
		}
	}
	return gate.Judge(rules, seen)
}

// Table writes the rows as text.
func Table(out io.Writer, rows []Row) error {
	t := table.New("the truth", ">aborted", ">median shadows", ">by a test", ">by a threshold", ">by the naive rule")
	for _, r := range rows {
		median := "-"
		if r.Median > 0 {
			median = fmt.Sprint(r.Median)
		}
		share := func(k int) string { return fmt.Sprintf("%.2f %%", 100*float64(k)/float64(r.Runs)) }
		t.Row(r.Truth, share(r.Aborted), median, share(r.ByTest), share(r.ByThreshold), share(r.Naive))
	}
	return t.Text(out)
}

// Naive describes the naive rule.
func Naive() string {
	return fmt.Sprintf("an exact one-sided test at %s of what the tests allow, evaluated every %d s at %d shadows per second, so every %d shadows",
		percent(naiveLevel), naiveSeconds, naivePerSecond, naiveEvery)
}
