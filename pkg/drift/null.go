package drift

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Null is the distribution of the indices when nothing has changed, for current data of a given number of days. With
// rows a minute apart, the textbook noise (B-1)(1/n + 1/m) is negligible compared with the noise between days. A
// feature that takes a day to change direction, such as the z-score of a day's prices, shows an index of 0.17 in a
// quiet week.
//
// The null is a bootstrap over the reference days: the index between two samples of whole days, drawn with replacement,
// one as long as the reference and one as long as the current data. The bins stay fixed. It assumes that days are
// independent; if they are not, the true noise is larger.
type Null struct {
	// Overall is the noise of the mean over the features, which are drawn together. Features are in the order of the
	// profile. Weighted is the noise of the weighted mean, zero if the profile has no weights.
	Overall, Weighted Noise
	Features          []Noise

	// overall, weighted and features are the draws, ascending; weighted is nil without weights.
	overall, weighted []float64
	features          [][]float64
}

// Noise describes the index without drift.
type Noise struct {
	// Expected is the mean in closed form: the sum over bins of s^2/p (1/D_reference + 1/D_present), with s^2 the
	// variance over days of a day's share of the bin, and p the reference share, at least [Floor]. It is a first-order
	// result: near 1, as for a price, the mean of the draws is larger by half or more.
	Expected float64 `json:"null_expected"`
	// Q95 and Q99 are bootstrap quantiles.
	Q95 float64 `json:"null_q95"`
	Q99 float64 `json:"null_q99"`
}

// ErrTooFewDays is returned if the reference or the current data has too few days to estimate the noise.
var ErrTooFewDays = errors.New("too few days")

// NewNull computes the null of a profile for the given number of days of current data, with the given number of draws,
// both > 0. The overall index is drawn as a whole, since features move together. The same seed gives the same numbers.
// It returns [ErrTooFewDays] if the reference has only one day.
func NewNull(p *Profile, days, replicates int, seed uint64) (*Null, error) {
	switch {
	case replicates <= 0:
		return nil, fmt.Errorf("%d replicates: want more than 0", replicates)
	case days <= 0:
		return nil, fmt.Errorf("current data of %d days: %w", days, ErrTooFewDays)
	case len(p.Days) < 2:
		return nil, fmt.Errorf("reference of %d day: %w", len(p.Days), ErrTooFewDays)
	}
	k := len(p.Features)
	null := &Null{Features: make([]Noise, k), overall: make([]float64, replicates), features: make([][]float64, k)}
	expected := make([]float64, k)
	for i := range p.Features {
		e := p.expected(i, days)
		null.Features[i].Expected, expected[i] = e, e
		null.features[i] = make([]float64, replicates)
	}
	null.Overall.Expected = p.overall(expected)
	weighted, ok := p.Weighted(expected)
	if ok {
		null.Weighted.Expected, null.weighted = weighted, make([]float64, replicates)
	}
	d := newDraw(p)
	values := make([]float64, k)
	rng := rand.New(rand.NewPCG(seed, 0))
	for r := range replicates {
		d.days(rng, len(p.Days), d.reference)
		d.days(rng, days, d.present)
		for i := range k {
			from, to := p.offsets[i], p.offsets[i+1]
			values[i] = PSI(d.reference[from:to], d.present[from:to])
			null.features[i][r] = values[i]
		}
		null.overall[r] = p.overall(values)
		if v, ok := p.Weighted(values); ok {
			null.weighted[r] = v
		}
	}
	null.Overall.quantiles(null.overall)
	if null.weighted != nil {
		null.Weighted.quantiles(null.weighted)
	}
	for i := range null.Features {
		null.Features[i].quantiles(null.features[i])
	}
	return null, nil
}

// quantiles sorts the draws and sets the quantiles.
func (n *Noise) quantiles(draws []float64) {
	slices.Sort(draws)
	n.Q95, n.Q99 = stats.Quantile(draws, 0.95), stats.Quantile(draws, 0.99)
}

// pValue returns the share of the ascending draws that reach the index, in (0,1]: (1 + draws that do) / (1 + draws),
// which is never 0 (B. Phipson and G. Smyth, 2010, "Permutation p-values should never be zero").
func pValue(draws []float64, psi float64) float64 {
	below, _ := slices.BinarySearch(draws, psi)
	return float64(1+len(draws)-below) / float64(1+len(draws))
}

// expected returns the expected index of feature i.
func (p *Profile) expected(i, days int) float64 {
	return p.dispersion(i) * (1/float64(len(p.Days)) + 1/float64(days))
}

// effective returns how many independent rows that many days and rows are worth for feature i: the n at which the
// textbook noise, (bins - 1)/n, equals the noise between days. Independent rows count in full.
func (p *Profile) effective(i, days int, rows uint64) float64 {
	bins := 0
	for _, share := range p.Features[i].Shares {
		if share > 0 {
			bins++
		}
	}
	noise := p.dispersion(i)
	if bins < 2 || noise == 0 {
		return float64(rows) // a constant has no noise
	}
	return min(float64(rows), float64(bins-1)*float64(days)/noise)
}

// dispersion returns the sum over the bins of feature i of s^2/p.
func (p *Profile) dispersion(i int) float64 {
	f := &p.Features[i]
	n := float64(len(f.Daily))
	sum := 0.0
	daily := make([]float64, len(f.Daily))
	for bin, share := range f.Shares {
		mean := 0.0
		for d, counts := range f.Daily {
			daily[d] = float64(counts[bin]) / float64(p.dayRows(i, d))
			mean += daily[d] / n
		}
		squares := 0.0
		for _, v := range daily {
			squares += float64((v - mean) * (v - mean))
		}
		sum += squares / (n - 1) / max(Floor, share)
	}
	return sum
}

// draw holds the reference days for drawing.
type draw struct {
	// daily are the counts of all bins per day, and rows the rows per day.
	daily [][]float64
	rows  []float64
	// reference and present are shares of all bins.
	reference, present []float64
}

func newDraw(p *Profile) *draw {
	bins := p.offsets[len(p.Features)]
	d := &draw{reference: make([]float64, bins), present: make([]float64, bins)}
	for day := range p.Days {
		counts := make([]float64, 0, bins)
		for i := range p.Features {
			for _, n := range p.Features[i].Daily[day] {
				counts = append(counts, float64(n))
			}
		}
		d.daily = append(d.daily, counts)
		d.rows = append(d.rows, float64(p.dayRows(0, day)))
	}
	return d
}

// days writes the shares of n days drawn with replacement into to.
func (d *draw) days(rng *rand.Rand, n int, to []float64) {
	clear(to)
	rows := 0.0
	for range n {
		day := rng.IntN(len(d.daily))
		rows += d.rows[day]
		for bin, count := range d.daily[day] {
			to[bin] += count
		}
	}
	for bin := range to {
		to[bin] /= rows
	}
}
