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
		rule, asked := r.Truth.rule()
		if !asked {
			continue
		}
		rules = append(rules, rule)
		seen[rule.Name] = r.observation()
	}
	return gate.Judge(rules, seen)
}

// observation returns the observation that the target of the row judges.
func (r Row) observation() gate.Observation {
	switch {
	case r.Truth.Target == FewAlarms:
		return gate.Rate(uint64(r.Aborted), uint64(r.Runs))
	case r.Truth.Target == FewTestAlarms:
		return gate.Rate(uint64(r.ByTest), uint64(r.Runs))
	case r.Median == 0:
		return gate.Missing("fewer than half of the runs were aborted: too few shadows, or too blunt a rule")
	default:
		return gate.Observation{Value: float64(r.Median), N: uint64(r.Runs), Bounds: r.Bounds}
	}
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
