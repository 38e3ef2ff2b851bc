// Package outcome answers whether a model is at least as good as the baseline on what really happened. It joins scored
// requests to their labels, sums them in one record per block of time, and judges the records.
//
// Everything is a sum of whole numbers: the order of rows, restarts and the number of executors do not change a bit. The
// package reads no clock: time is the time of market states, of quotes and of reports, so a replay of days takes seconds.
//
//	p  the model's score       q  the baseline's score       y  the label, 0 or 1
//	p' the policy score: p if it arrived in time, is valid and |p - q| <= D; otherwise q
//	d  (q - y)^2 - (p' - y)^2, the difference of Brier losses; positive if the model was better; |d| <= B = D (2 - D)
//	x  the mean of d over the rows of a block, divided by B, in [-1,1]
package outcome

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// LabelSource is where the labels of a plan come from.
type LabelSource string

// The label sources.
const (
	// Quotes means that the executor computes the built-in label from its quotes.
	Quotes LabelSource = "quotes"
	// Reported means that a caller reports outcomes.
	Reported LabelSource = "reported"
)

const (
	// LeastWidth is the shortest block.
	LeastWidth = 15 * time.Minute
	// Grace is how long after its horizon the label of a row may become known.
	Grace = 15 * time.Minute
	// MaxSkew is how far the time of a live row may be from its arrival.
	MaxSkew = 2 * time.Minute
	// LeastCap is the smallest disagreement cap that is suggested.
	LeastCap = 0.05
	// DefaultAlpha is the probability of a false claim on one side.
	DefaultAlpha = 0.05

	// capQuantile is the quantile of |p - q| that is the suggested cap, and marginShare the share of the baseline's Brier
	// loss that is the suggested margin.
	capQuantile, marginShare = 0.995, 0.05
	// maxHorizon bounds the memory of pending rows.
	maxHorizon = 31 * 24 * time.Hour
)

// Plan fixes the terms of a verdict before the run. A different plan starts a new run without the claims of the first. The
// zero Plan means that rows are counted and not judged.
type Plan struct {
	// DisagreementCap is D, in (0,1]: the baseline replaces a score that is farther from it.
	DisagreementCap float64 `json:"disagreement_cap"`
	// Margin is mu, in (0, B): a model is not worse if its Brier loss is higher by less than this.
	Margin float64 `json:"margin"`
	// Alpha is the probability of a false claim on one side, in (0,1).
	Alpha       float64     `json:"alpha"`
	LabelSource LabelSource `json:"label_source"`
	// HorizonMS is how far the label looks ahead, in milliseconds. With labels from quotes it is whole minutes.
	HorizonMS int64 `json:"horizon_ms"`
}

// Suggest returns the plan for pairs of scores, one for each label: D is the 99.5 % quantile of |p - q|, at least 0.05,
// and the margin is 5 % of the baseline's Brier loss. distances must be |p - q| in ascending order.
func Suggest(distances []float64, baselineBrier float64, source LabelSource, horizon time.Duration) Plan {
	return Plan{
		DisagreementCap: min(1, max(LeastCap, stats.Quantile(distances, capQuantile))), Margin: marginShare * baselineBrier,
		Alpha: DefaultAlpha, LabelSource: source, HorizonMS: horizon.Milliseconds(),
	}
}

// Validate returns an error if a value is out of range.
func (p Plan) Validate() error {
	horizon := p.Horizon()
	switch {
	case !(p.DisagreementCap > 0 && p.DisagreementCap <= 1):
		return fmt.Errorf("quality plan: disagreement cap %v: want a number above 0, at most 1", p.DisagreementCap)
	case !(p.Margin > 0 && p.Margin < p.MaxDifference()):
		return fmt.Errorf("quality plan: margin %v: want a number above 0, below %v, the largest difference under a cap of %v", p.Margin, p.MaxDifference(), p.DisagreementCap)
	case !(p.Alpha > 0 && p.Alpha < 1):
		return fmt.Errorf("quality plan: alpha %v: want a number between 0 and 1", p.Alpha)
	case p.LabelSource != Quotes && p.LabelSource != Reported:
		return fmt.Errorf("quality plan: label source %q: want %s or %s", p.LabelSource, Quotes, Reported)
	case horizon <= 0 || horizon > maxHorizon:
		return fmt.Errorf("quality plan: horizon %v: want more than 0, at most %v", horizon, maxHorizon)
	case p.LabelSource == Quotes && horizon%time.Minute != 0:
		return errors.New("quality plan: labels from quotes need a horizon of whole minutes")
	}
	return nil
}

// Digest returns the SHA-256 of the plan, in hexadecimal digits. It is empty for the zero Plan.
func (p Plan) Digest() string {
	if p == (Plan{}) {
		return ""
	}
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	sum := sha256.Sum256(fmt.Appendf(nil, "greenlight/quality_plan/v1\ndisagreement_cap %s\nmargin %s\nalpha %s\nlabel_source %s\nhorizon_ms %d\n",
		number(p.DisagreementCap), number(p.Margin), number(p.Alpha), p.LabelSource, p.HorizonMS))
	return hex.EncodeToString(sum[:])
}

// Horizon returns H, how far the label looks ahead.
func (p Plan) Horizon() time.Duration { return time.Duration(p.HorizonMS) * time.Millisecond }

// Width returns W, the width of a block: the horizon, at least 15 minutes.
func (p Plan) Width() time.Duration { return max(p.Horizon(), LeastWidth) }

// MaxDifference returns B = D (2 - D), the largest |d|.
func (p Plan) MaxDifference() float64 { return p.DisagreementCap * (2 - p.DisagreementCap) }

// Block returns the block of a time in Unix milliseconds: block b is [bW, (b+1)W) in UTC.
func (p Plan) Block(t int64) int64 { return floorDiv(t, p.Width().Milliseconds()) }

// Start returns when a block begins.
func (p Plan) Start(block int64) time.Time {
	return time.UnixMilli(block * p.Width().Milliseconds()).UTC()
}

// LeastDays returns the fewest days until a verdict that the model is not worse, which two equal scorers reach:
// 2 n W with n = ln(2K/alpha) B / (0.9 mu) blocks in each of the two streams.
func (p Plan) LeastDays() float64 {
	n := max(LeastBlocks, math.Ceil(stats.LeastCount(p.Margin/p.MaxDifference(), p.Alpha/2)))
	return 2 * n * p.Width().Hours() / 24
}

// floorDiv returns a/b, rounded down, for b > 0.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
