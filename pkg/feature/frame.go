package feature

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Frame is every feature at every minute of the grid of one instrument: what the [Engine] said after each minute.
// Minutes are numbered from 0 in order of time; their ends ascend but are not contiguous where there is a long hole.
type Frame struct {
	ends      []int64
	columns   [][]float64
	high, low []float64
	filled    []bool
	estimated []bool
}

// Compute runs a new [Engine] over bars, which must be in order of time. It fails on the first bar that the engine
// refuses.
func Compute(bars []market.Bar) (*Frame, error) {
	f := &Frame{
		ends:      make([]int64, 0, len(bars)),
		columns:   make([][]float64, len(definitions)),
		high:      make([]float64, 0, len(bars)),
		low:       make([]float64, 0, len(bars)),
		filled:    make([]bool, 0, len(bars)),
		estimated: make([]bool, 0, len(bars)),
	}
	for c := range f.columns {
		f.columns[c] = make([]float64, 0, len(bars))
	}
	e := NewEngine()
	e.onMinute = func() {
		f.ends = append(f.ends, e.End())
		f.high = append(f.high, e.last.High)
		f.low = append(f.low, e.last.Low)
		f.filled = append(f.filled, e.filled)
		f.estimated = append(f.estimated, e.estimated)
		for c, d := range definitions {
			f.columns[c] = append(f.columns[c], d.value(e))
		}
	}
	for i, b := range bars {
		if err := e.Push(b); err != nil {
			return nil, fmt.Errorf("bar %d: %w", i, err)
		}
	}
	return f, nil
}

// Len is the number of minutes.
func (f *Frame) Len() int { return len(f.ends) }

// End is the decision time of minute i, Unix milliseconds UTC.
func (f *Frame) End(i int) int64 { return f.ends[i] }

// Day is the UTC day to which minute i belongs, in whole days since 1970-01-01: that of the minute's start, so that
// the decision at midnight ends the old day.
func (f *Frame) Day(i int) int { return int(floorDay(f.ends[i] - market.MinuteMS)) }

// High and Low are the extremes of mid (of the trade price, where there are no quotes) within every minute, equal in a
// filled one. They are the frame's own memory and must not be changed.
func (f *Frame) High() []float64 { return f.high }

// Low is described at [Frame.High].
func (f *Frame) Low() []float64 { return f.low }

// Filled says whether minute i was missing from the source.
func (f *Frame) Filled(i int) bool { return f.filled[i] }

// SpreadEstimated says whether the spread of minute i is an estimate from highs and lows rather than a quote.
func (f *Frame) SpreadEstimated(i int) bool { return f.estimated[i] }

// Column is the named feature at every minute, NaN where it is undefined; nil when there is no such feature. It is
// the frame's own memory and must not be changed.
func (f *Frame) Column(name string) []float64 {
	i, ok := byName[name]
	if !ok {
		return nil
	}
	return f.columns[i]
}

// Row fills dst, which has room for s.Len() values, with the features of s at minute i, and says whether all are
// defined. When it says false the vector is not ready and must not be scored.
func (f *Frame) Row(i int, s *Schema, dst []float64) bool {
	ready := true
	for k, c := range s.columns {
		dst[k] = f.columns[c][i]
		ready = ready && !math.IsNaN(dst[k])
	}
	return ready
}
