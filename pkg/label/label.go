// Package label defines what a model predicts: a coming price move that is large enough to trade.
//
// A minute is positive if the price range of the next minutes exceeds c times what is normal for the instrument. The
// label is about size only; it does not predict the direction.
package label

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Rule is the label with its two numbers. A zero field means that of [Default].
type Rule struct {
	// Horizon is how many minutes ahead the label looks, 1 to [MaxHorizon].
	Horizon int `json:"horizon_minutes"`
	// Quantile is the quantile of Z on the training window that separates the classes, in (0,1): 0.72 makes 28 % of the
	// rows positive.
	Quantile float64 `json:"quantile"`
}

// Default returns the rule of the reference study.
func Default() Rule { return Rule{Horizon: 15, Quantile: 0.72} }

// MaxHorizon is the largest horizon, a day.
const MaxHorizon = 24 * 60

// Complete returns the rule with the defaults in place of zero fields. It returns an error if a field is out of range.
func (r Rule) Complete() (Rule, error) {
	r = Rule{Horizon: cmp.Or(r.Horizon, Default().Horizon), Quantile: cmp.Or(r.Quantile, Default().Quantile)}
	if r.Horizon < 1 || r.Horizon > MaxHorizon {
		return r, fmt.Errorf("label horizon of %d minutes: want 1 to %d", r.Horizon, MaxHorizon)
	}
	if !(r.Quantile > 0 && r.Quantile < 1) {
		return r, fmt.Errorf("label quantile %v: want more than 0 and less than 1", r.Quantile)
	}
	return r, nil
}

// Range returns, for every minute t of the frame, 1e4 ln(max mid / min mid over (t, t + horizon]) in basis points, >= 0.
// The minute t itself is excluded. It is NaN where the next grid minutes are not the minutes that follow: at the
// end, and before a hole that is too long to fill. The rule must be complete.
func (r Rule) Range(f *feature.Frame) []float64 {
	high, low := f.High(), f.Low()
	z := make([]float64, f.Len())
	for i := range z {
		z[i] = math.NaN()
		j := i + r.Horizon
		if j >= f.Len() || f.End(j)-f.End(i) != int64(r.Horizon)*market.MinuteMS {
			continue
		}
		z[i] = 1e4 * math.Log(slices.Max(high[i+1:j+1])/slices.Min(low[i+1:j+1]))
	}
	return z
}

// Z returns, for every minute of the frame, [Rule.Range] / (sigma_ref sqrt(horizon)): the coming range as a multiple of
// the normal range, >= 0. It is NaN where the range or sigma_ref is undefined.
func (r Rule) Z(f *feature.Frame) []float64 {
	z, sigma := r.Range(f), f.Column("sigma_ref")
	for i := range z {
		z[i] /= sigma[i] * math.Sqrt(float64(r.Horizon))
	}
	return z
}

// Threshold returns c: the quantile (type 7) of the defined values of z, which must come from the training window
// only. A row is positive if its z is above c. It is NaN if no value is defined.
func (r Rule) Threshold(z []float64) float64 {
	defined := make([]float64, 0, len(z))
	for _, v := range z {
		if !math.IsNaN(v) {
			defined = append(defined, v)
		}
	}
	slices.Sort(defined)
	return stats.Quantile(defined, r.Quantile)
}
