// Package label defines what a model predicts: a coming price move that is large enough to trade.
//
// A minute is positive if the price range of the next 15 minutes exceeds c times what is normal for the instrument. The
// label is about size only; it does not predict the direction.
package label

import (
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

const (
	// Horizon is how many minutes ahead the label looks.
	Horizon = 15
	// ThresholdQuantile is the quantile of Z on the training window that separates the classes.
	ThresholdQuantile = 0.72
)

// Range returns, for every minute t of the frame, 1e4 ln(max mid / min mid over (t, t + 15 min]) in basis points, >= 0.
// The minute t itself is excluded. It is NaN where the next 15 grid minutes are not the 15 minutes that follow: at the
// end, and before a hole that is too long to fill.
func Range(f *feature.Frame) []float64 {
	high, low := f.High(), f.Low()
	z := make([]float64, f.Len())
	for i := range z {
		z[i] = math.NaN()
		j := i + Horizon
		if j >= f.Len() || f.End(j)-f.End(i) != Horizon*market.MinuteMS {
			continue
		}
		z[i] = 1e4 * math.Log(slices.Max(high[i+1:j+1])/slices.Min(low[i+1:j+1]))
	}
	return z
}

// Z returns, for every minute of the frame, [Range] / (sigma_ref sqrt 15): the coming range as a multiple of the normal
// range, >= 0. It is NaN where the range or sigma_ref is undefined.
func Z(f *feature.Frame) []float64 {
	z, sigma := Range(f), f.Column("sigma_ref")
	for i := range z {
		z[i] /= sigma[i] * math.Sqrt(Horizon)
	}
	return z
}

// Threshold returns c: the 0.72 quantile (type 7) of the defined values of z, which must come from the training window
// only. A row is positive if its z is above c. It is NaN if no value is defined.
func Threshold(z []float64) float64 {
	defined := make([]float64, 0, len(z))
	for _, v := range z {
		if !math.IsNaN(v) {
			defined = append(defined, v)
		}
	}
	slices.Sort(defined)
	return stats.Quantile(defined, ThresholdQuantile)
}
