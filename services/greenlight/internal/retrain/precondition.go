package retrain

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Limits are the requirements on training data.
type Limits struct {
	// MinDays is the minimum number of UTC days with usable rows.
	MinDays int `json:"min_days"`
	// MinPositives is the minimum number of positive rows. Neighbouring labels overlap, so 200 rows are about a dozen moves.
	MinPositives int `json:"min_positives"`
	// MaxGap is the longest gap or frozen stretch allowed. An FX weekend is 2 days, and 3 with an adjacent holiday.
	MaxGap time.Duration `json:"-"`
}

// DefaultLimits are 14 days, 200 positive rows and a gap of 4 days.
func DefaultLimits() Limits {
	return Limits{MinDays: 14, MinPositives: 200, MaxGap: 4 * 24 * time.Hour}
}

// RefusalError means that the data is not fit for training. It is not a verdict on a model: none was trained.
type RefusalError struct {
	// Reasons lists all faults of the data, Hint is what to do.
	Reasons []string
	Hint    string
}

// Error implements error.
func (r *RefusalError) Error() string { return "refused: " + strings.Join(r.Reasons, "; ") }

// Gap is a stretch without a bar.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Length returns the length of the gap.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// LongestGap returns the longest stretch without a bar, the first if several tie, and zero if no minute is missing. Frozen
// bars count as missing, also at the start and the end of the data.
func LongestGap(data *experiment.Data) Gap {
	var longest Gap
	take := func(from, to int64) {
		if to > from && time.Duration(to-from)*time.Millisecond > longest.Length() {
			longest = Gap{time.UnixMilli(from).UTC(), time.UnixMilli(to).UTC()}
		}
	}
	if len(data.Raw) == 0 {
		return longest
	}
	last := data.Raw[0].Start
	for _, b := range data.Bars {
		take(last, b.Start)
		last = b.End()
	}
	take(last, data.Raw[len(data.Raw)-1].End())
	return longest
}

// Facts are the properties of the data that the limits apply to.
type Facts struct {
	Limits
	MaxGapHours float64 `json:"max_gap_hours"`
	Days        int     `json:"days"`
	Rows        int     `json:"rows"`
	Positives   int     `json:"positives"`
	LongestGap  Gap     `json:"longest_gap"`
	// LongestGapHours is 0 if no minute is missing.
	LongestGapHours float64 `json:"longest_gap_hours"`
	// Quality is the quality of the window. Data with a FAIL is refused; an INCONCLUSIVE figure also appears in the checks.
	Quality *experiment.DataQuality `json:"data_quality"`
}

// Check checks the population against the limits. Its error is a [*RefusalError] with all reasons.
func (l Limits) Check(p *Population) (Facts, error) {
	gap := LongestGap(p.Data)
	f := Facts{
		Limits: l, MaxGapHours: l.MaxGap.Hours(), Days: len(p.Days), Rows: p.Rows.Len(), Positives: p.Positives,
		LongestGap: gap, LongestGapHours: gap.Length().Hours(), Quality: experiment.NewDataQuality(p.Data.Quality),
	}
	var reasons []string
	for _, check := range f.Quality.Checks {
		if check.Verdict == gate.Fail {
			reasons = append(reasons, check.Name+" "+check.Reason)
		}
	}
	if gap.Length() > l.MaxGap {
		reasons = append(reasons, fmt.Sprintf("no data from %s to %s: a gap of %.1f days, %.1f are allowed",
			stamp(gap.From), stamp(gap.To), gap.Length().Hours()/24, l.MaxGap.Hours()/24))
	}
	// At least one row is needed, whatever the limits.
	if days := max(1, l.MinDays); f.Days < days {
		reasons = append(reasons, fmt.Sprintf("%d days with usable rows, %d needed", f.Days, days))
	}
	if f.Positives < l.MinPositives {
		reasons = append(reasons, fmt.Sprintf("%d positive rows of %d, %d needed", f.Positives, f.Rows, l.MinPositives))
	}
	if len(reasons) > 0 {
		hint := "collect more data or widen --window; --min-days, --min-positives and --max-gap change the limits"
		if f.Quality.Verdict == gate.Fail {
			hint = "check the feed, and provide data without the named stretch or price; adjust the prices before a split"
		}
		return f, &RefusalError{reasons, hint}
	}
	return f, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
