package shadow

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// distribution is a histogram of whole numbers from 0 to a limit, to two significant digits, with its exact maximum.
type distribution struct {
	histogram *hdrhistogram.Histogram
	limit     int64
	largest   int64
}

func newDistribution(limit int64) distribution {
	return distribution{histogram: hdrhistogram.New(1, limit, 2), limit: limit}
}

// add counts the value, or the limit if the value exceeds it.
func (d *distribution) add(v int64) {
	v = min(v, d.limit)
	d.largest = max(d.largest, v)
	_ = d.histogram.RecordValue(v) // fails only above the limit
}

func (d *distribution) merge(from distribution) {
	d.largest = max(d.largest, from.largest)
	d.histogram.Merge(from.histogram)
}

func (d *distribution) reset() {
	d.largest = 0
	d.histogram.Reset()
}

// quantiles returns the contract's quantiles in the unit. hdrhistogram returns the upper edge of a bucket, which can exceed
// the largest value seen, so quantiles are capped at that value.
func (d *distribution) quantiles(unit float64) *executorv1.Quantiles {
	at := func(q float64) float64 { return float64(min(d.histogram.ValueAtQuantile(q), d.largest)) * unit }
	return &executorv1.Quantiles{
		Count: uint64(d.histogram.TotalCount()),
		P50:   at(50), P95: at(95), P99: at(99),
		Max: float64(d.largest) * unit,
	}
}
