package faults

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Ratio is the p99 of the executor with a shadow divided by that of the executor without.
type Ratio struct {
	// OnUS and OffUS are the p99 over all slices of a side, in microseconds; Ratio is their quotient.
	OnUS  float64 `json:"p99_on_us"`
	OffUS float64 `json:"p99_off_us"`
	Ratio float64 `json:"ratio"`
	// Low and High are the ends of the 99 % interval of Ratio, by a bootstrap of blocks of slices.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Slices is the number of slices of each side.
	Slices int `json:"slices"`
}

// judge compares the ratio to the target. It is INCONCLUSIVE if the interval contains the target, and FAIL if the ratio is NaN.
func (r Ratio) judge() gate.Verdict {
	switch {
	case r.Ratio <= maxRatio:
		return gate.Pass
	case r.Low <= maxRatio:
		return gate.Inconclusive
	default:
		return gate.Fail
	}
}

// bar is a histogram bar: the number of latencies of a block with this value.
type bar struct {
	value, count int64 // value in nanoseconds
	block        int
}

// latencies are the latencies of one side, by blocks of slices.
type latencies struct {
	bars []bar
	of   []int64 // latencies per block
	plus int64   // added to each of them, in nanoseconds
}

// add adds the latencies of a slice to the block. Slices come in order.
func (l *latencies) add(block int, h *hdrhistogram.Histogram) {
	if block == len(l.of) {
		l.of = append(l.of, 0)
	}
	l.of[block] += h.TotalCount()
	for _, b := range h.Distribution() {
		if b.Count > 0 {
			l.bars = append(l.bars, bar{b.To, b.Count, block})
		}
	}
}

// p99 returns the smallest value that at most 1 % of the latencies exceed; weights has the weight of each block. The bars are
// in descending order.
func (l *latencies) p99(times []int64) float64 {
	var above int64
	for block, n := range l.of {
		above += n * times[block]
	}
	above /= 100
	for _, b := range l.bars {
		if above -= b.count * times[b.block]; above < 0 {
			return float64(b.value + l.plus)
		}
	}
	return 0
}

const (
	// Rounds per block; a round is on, off, off, on. A burst of other work affects neighbouring slices alike.
	blockRounds = 2
	resamples   = 2000
	// tail is the fraction of the resamples beyond each end of the interval. With twenty rows, the usual 0.025 would report a
	// chance miss on every second page.
	tail = 0.005
)

// ratioOf compares the p99 of both sides. The block in which the fault starts is in every resample exactly once, because every
// fault has one.
func ratioOf(on, off *latencies, slicesOfSide int) (Ratio, error) {
	n := len(on.of)
	if n == 0 || n != len(off.of) {
		return Ratio{}, fmt.Errorf("p99: %d and %d blocks of slices: want equal numbers, at least 1", n, len(off.of))
	}
	down := func(a, b bar) int { return cmp.Compare(b.value, a.value) }
	slices.SortFunc(on.bars, down)
	slices.SortFunc(off.bars, down)
	times := slices.Repeat([]int64{1}, n)
	p99On, p99Off := on.p99(times), off.p99(times)
	if p99On <= 0 || p99Off <= 0 {
		return Ratio{}, errors.New("p99: a side has no latencies")
	}
	us := float64(time.Microsecond)
	r := Ratio{OnUS: p99On / us, OffUS: p99Off / us, Ratio: p99On / p99Off, Slices: slicesOfSide}
	rng := rand.New(rand.NewPCG(1, 2))
	var ratios []float64
	for range resamples {
		clear(times)
		times[0] = 1
		for range n - 1 {
			times[1+rng.IntN(n-1)]++
		}
		if p := off.p99(times); p > 0 {
			ratios = append(ratios, on.p99(times)/p)
		}
	}
	slices.Sort(ratios)
	last := float64(len(ratios) - 1)
	r.Low, r.High = ratios[int(tail*last)], ratios[int((1-tail)*last)]
	return r, nil
}
