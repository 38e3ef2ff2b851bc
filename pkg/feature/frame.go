package feature

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Frame holds every feature at every grid minute of one instrument, as the [Builder] computed it after that minute.
// Minutes are numbered from 0 in time order. Their ends ascend, with gaps where there is a long hole.
type Frame struct {
	ends      []int64
	columns   [][]float64
	high, low []float64
}

// Compute runs a new [Builder] over bars, which must be in time order. It stops at the first bar that the builder
// refuses.
func Compute(bars []market.Bar) (*Frame, error) {
	f := &Frame{
		ends:    make([]int64, 0, len(bars)),
		columns: make([][]float64, len(definitions)),
		high:    make([]float64, 0, len(bars)),
		low:     make([]float64, 0, len(bars)),
	}
	for c := range f.columns {
		f.columns[c] = make([]float64, 0, len(bars))
	}
	b := NewBuilder()
	b.onMinute = func() {
		f.ends = append(f.ends, b.End())
		f.high = append(f.high, b.last.High)
		f.low = append(f.low, b.last.Low)
		for c, d := range definitions {
			f.columns[c] = append(f.columns[c], d.value(b))
		}
	}
	for i, bar := range bars {
		if err := b.Push(bar); err != nil {
			return nil, fmt.Errorf("bar %d: %w", i, err)
		}
	}
	return f, nil
}

// Len returns the number of minutes.
func (f *Frame) Len() int { return len(f.ends) }

// End returns the decision time of minute i, Unix milliseconds UTC.
func (f *Frame) End(i int) int64 { return f.ends[i] }

// Day returns the UTC day on which minute i starts, in whole days since 1970-01-01. The decision at midnight thus
// belongs to the old day.
func (f *Frame) Day(i int) int { return int(floorDay(f.ends[i] - market.MinuteMS)) }

// High returns the highest mid of every minute (of the trade price, where there are no quotes). In a filled minute it
// equals [Frame.Low]. The slice is the frame's own memory and must not be changed.
func (f *Frame) High() []float64 { return f.high }

// Low returns the lowest mid of every minute: see [Frame.High].
func (f *Frame) Low() []float64 { return f.low }

// Column returns the named feature at every minute, NaN where it is undefined, or nil if there is no such feature. The
// slice is the frame's own memory and must not be changed.
func (f *Frame) Column(name string) []float64 {
	i, ok := byName[name]
	if !ok {
		return nil
	}
	return f.columns[i]
}

// Row fills dst, which must hold s.Len() values, with the features of s at minute i. It reports whether all of them are
// defined; if not, the vector must not be scored.
func (f *Frame) Row(i int, s *Schema, dst []float64) bool {
	ready := true
	for k, c := range s.columns {
		dst[k] = math.NaN()
		if c >= 0 {
			dst[k] = f.columns[c][i]
		}
		ready = ready && !math.IsNaN(dst[k])
	}
	return ready
}
