// Package label defines what a model predicts: an upcoming price move that is large enough to trade.
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

// Rule defines the label by two numbers. A zero field means the value from [Default].
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

// Stream computes the label of one instrument minute by minute, as the minutes of its grid complete. [Rule.Range] and [Rule.Z]
// run it over a frame.
type Stream struct {
	// minutes is a ring of the last horizon + 1 grid minutes; n is how many there have been.
	minutes []feature.Minute
	n       int
}

// Stream returns a new stream for one instrument. The rule must be complete.
func (r Rule) Stream() *Stream { return &Stream{minutes: make([]feature.Minute, r.Horizon+1)} }

// Push takes the next grid minute, including filled ones. It returns the range and z of the minute that ended one horizon
// earlier: see [Rule.Range] and [Rule.Z].
func (s *Stream) Push(minute feature.Minute) (rangeBP, z float64) {
	size := len(s.minutes)
	s.minutes[s.n%size] = minute
	s.n++
	first := s.minutes[s.n%size] // the oldest, once the ring is full
	if s.n < size || minute.End-first.End != int64(size-1)*market.MinuteMS {
		return math.NaN(), math.NaN()
	}
	high, low := minute.High, minute.Low
	for i := 1; i < size; i++ {
		m := &s.minutes[(s.n+i)%size]
		high, low = max(high, m.High), min(low, m.Low)
	}
	rangeBP = 1e4 * math.Log(high/low)
	return rangeBP, rangeBP / (first.SigmaRef * math.Sqrt(float64(size-1)))
}

// Minutes returns the minutes that the next labels depend on, oldest first. A new stream that gets them continues this one.
func (s *Stream) Minutes() []feature.Minute {
	size := len(s.minutes)
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
	return s.minutes[(s.n-1)%len(s.minutes)].End
}

// Range returns, for every minute t of the frame, 1e4 ln(max mid / min mid over (t, t + horizon]) in basis points, >= 0.
// The minute t itself is excluded. It is NaN where the minutes that follow are not all on the grid: at the end, and before a
// gap that is too long to fill. The rule must be complete.
func (r Rule) Range(f *feature.Frame) []float64 {
	ranges, _ := r.run(f)
	return ranges
}

// Z returns, for every minute of the frame, [Rule.Range] / (sigma_ref sqrt(horizon)): the upcoming range as a multiple of the
// normal range, >= 0. It is NaN where the range or sigma_ref is undefined.
func (r Rule) Z(f *feature.Frame) []float64 {
	_, z := r.run(f)
	return z
}

func (r Rule) run(f *feature.Frame) (ranges, z []float64) {
	ranges, z = slices.Repeat([]float64{math.NaN()}, f.Len()), slices.Repeat([]float64{math.NaN()}, f.Len())
	high, low, sigma := f.High(), f.Low(), f.Column("sigma_ref")
	s := r.Stream()
	for i := range ranges {
		if bp, one := s.Push(feature.Minute{End: f.End(i), High: high[i], Low: low[i], SigmaRef: sigma[i]}); i >= r.Horizon {
			ranges[i-r.Horizon], z[i-r.Horizon] = bp, one
		}
	}
	return ranges, z
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
