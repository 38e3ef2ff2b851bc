package retrain

import (
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Limits are what data must have before anything is learned from it.
type Limits struct {
	// MinDays is the fewest UTC days with usable rows.
	MinDays int `json:"min_days"`
	// MinPositives is the fewest positive rows: neighbouring labels overlap, so 200 are a dozen moves.
	MinPositives int `json:"min_positives"`
	// MaxGap is the longest stretch without a bar, or with bars that no market made. A week-end of FX is 2 days, with a holiday beside it 3.
	MaxGap time.Duration `json:"-"`
}

// DefaultLimits are 14 days, 200 positives and 4 days without a bar.
func DefaultLimits() Limits {
	return Limits{MinDays: 14, MinPositives: 200, MaxGap: 4 * 24 * time.Hour}
}

// RefusalError is that of data that nothing should be learned from. It is no verdict on a model: there is none.
type RefusalError struct {
	// Reasons are all that is wrong, Hint is what to do.
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

// Length is how long the gap is.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// LongestGap is the longest stretch without a bar that a market made, the first of equals; zero where no minute is missing.
// Frozen bars at the beginning and the end of the data count as missing.
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

// Facts are what the limits were held against.
type Facts struct {
	Limits
	MaxGapHours float64 `json:"max_gap_hours"`
	Days        int     `json:"days"`
	Rows        int     `json:"rows"`
	Positives   int     `json:"positives"`
	LongestGap  Gap     `json:"longest_gap"`
	// LongestGapHours is 0 where no minute is missing.
	LongestGapHours float64 `json:"longest_gap_hours"`
	// Quality is that of the window. Only INCONCLUSIVE figures are let through: they are in the checks too.
	Quality *experiment.DataQuality `json:"data_quality"`
}

// Check holds the population to the limits. Its error is a [*RefusalError] with every reason.
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
		reasons = append(reasons, fmt.Sprintf("nothing from %s to %s: a gap of %.1f days, %.1f are allowed",
			stamp(gap.From), stamp(gap.To), gap.Length().Hours()/24, l.MaxGap.Hours()/24))
	}
	// Without a row there is nothing to examine, whatever the limits.
	if days := max(1, l.MinDays); f.Days < days {
		reasons = append(reasons, fmt.Sprintf("%d days with usable rows, %d needed", f.Days, days))
	}
	if f.Positives < l.MinPositives {
		reasons = append(reasons, fmt.Sprintf("%d positive rows of %d, %d needed", f.Positives, f.Rows, l.MinPositives))
	}
	if len(reasons) > 0 {
		hint := "collect more data or widen --window; --min-days, --min-positives and --max-gap move the limits"
		if f.Quality.Verdict == gate.Fail {
			hint = "look at the feed: give data without the stretch or the price that is named; a split needs prices before it that are adjusted"
		}
		return f, &RefusalError{reasons, hint}
	}
	return f, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
