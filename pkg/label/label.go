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

// Stream computes the label of one instrument minute by minute, as the minutes of its grid complete. It is what [Range] and
// [Z] run over a frame.
type Stream struct {
	// minutes is a ring of the last Horizon + 1 grid minutes; n is how many there have been.
	minutes [Horizon + 1]feature.Minute
	n       int
}

// Push takes the next grid minute, including filled ones. It returns the range and z of the minute that ended a horizon
// before: see [Range] and [Z].
func (s *Stream) Push(minute feature.Minute) (rangeBP, z float64) {
	const size = Horizon + 1
	s.minutes[s.n%size] = minute
	s.n++
	first := s.minutes[s.n%size] // the oldest, once the ring is full
	if s.n < size || minute.End-first.End != Horizon*market.MinuteMS {
		return math.NaN(), math.NaN()
	}
	high, low := minute.High, minute.Low
	for i := 1; i < size; i++ {
		m := &s.minutes[(s.n+i)%size]
		high, low = max(high, m.High), min(low, m.Low)
	}
	rangeBP = 1e4 * math.Log(high/low)
	return rangeBP, rangeBP / (first.SigmaRef * math.Sqrt(Horizon))
}

// Minutes returns the minutes that the next labels depend on, the oldest first. A stream that is given them continues this
// one.
func (s *Stream) Minutes() []feature.Minute {
	const size = Horizon + 1
	var all []feature.Minute
	for i := max(0, s.n-size); i < s.n; i++ {
		all = append(all, s.minutes[i%size])
	}
	return all
}

// Last returns the end of the last minute in Unix milliseconds, 0 before the first.
func (s *Stream) Last() int64 {
	if s.n == 0 {
		return 0
	}
	return s.minutes[(s.n-1)%(Horizon+1)].End
}

// Range returns, for every minute t of the frame, 1e4 ln(max mid / min mid over (t, t + 15 min]) in basis points, >= 0.
// The minute t itself is excluded. It is NaN where the next 15 grid minutes are not the 15 minutes that follow: at the
// end, and before a hole that is too long to fill.
func Range(f *feature.Frame) []float64 {
	ranges, _ := run(f)
	return ranges
}

// Z returns, for every minute of the frame, [Range] / (sigma_ref sqrt 15): the coming range as a multiple of the normal
// range, >= 0. It is NaN where the range or sigma_ref is undefined.
func Z(f *feature.Frame) []float64 {
	_, z := run(f)
	return z
}

func run(f *feature.Frame) (ranges, z []float64) {
	ranges, z = slices.Repeat([]float64{math.NaN()}, f.Len()), slices.Repeat([]float64{math.NaN()}, f.Len())
	high, low, sigma := f.High(), f.Low(), f.Column("sigma_ref")
	var s Stream
	for i := range ranges {
		if r, one := s.Push(feature.Minute{End: f.End(i), High: high[i], Low: low[i], SigmaRef: sigma[i]}); i >= Horizon {
			ranges[i-Horizon], z[i-Horizon] = r, one
		}
	}
	return ranges, z
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
