// Package calibrate measures the error rates of the drift gate: how often it reports drift when nothing has changed, and how
// often it misses a change.
package calibrate

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Pool holds the days of one regime: rows of features, minute by minute.
type Pool struct {
	// Name is the source of the days.
	Name string
	// Features are the names of the features.
	Features []string
	// days holds the rows of each day, one after the other.
	days [][]float64
}

// minMinutes is the minimum number of minutes of a day in a pool: half a day.
const minMinutes = 720

// MarketPool returns the days of a market, as features of the schema without bias.
func MarketPool(name string, frame *feature.Frame, schema *feature.Schema) *Pool {
	p := &Pool{Name: name}
	var columns []int
	for i, f := range schema.Names() {
		if f != feature.Bias {
			p.Features, columns = append(p.Features, f), append(columns, i)
		}
	}
	x := make([]float64, schema.Len())
	var rows []float64
	last := math.MinInt
	end := func() {
		if len(rows) >= minMinutes*len(columns) {
			p.days = append(p.days, rows)
		}
		rows = nil
	}
	for i := range frame.Len() {
		if day := frame.Day(i); day != last {
			end()
			last = day
		}
		if frame.Row(i, schema, x) {
			for _, c := range columns {
				rows = append(rows, x[c])
			}
		}
	}
	end()
	return p
}

// AutoregressivePool returns days of a stationary process, which has no drift by construction: each feature is an AR(1) with
// the given autocorrelation from minute to minute, also across midnight, and a standard normal marginal distribution.
func AutoregressivePool(days int, rho []float64, seed uint64) *Pool {
	p := &Pool{Name: "AR(1)", days: make([][]float64, days)}
	state := make([]float64, len(rho))
	rng := rand.New(rand.NewPCG(seed, 3))
	for j, r := range rho {
		p.Features = append(p.Features, fmt.Sprintf("ar_%g", r))
		state[j] = rng.NormFloat64()
	}
	for d := range days {
		for range 24 * 60 {
			for j, r := range rho {
				state[j] = r*state[j] + math.Sqrt(1-r*r)*rng.NormFloat64()
			}
			p.days[d] = append(p.days[d], state...)
		}
	}
	return p
}

// Days returns the number of days.
func (p *Pool) Days() int { return len(p.days) }

// rows visits n evenly spread rows of the given days, with the index of each day in the list.
func (p *Pool) rows(days []int, n int, visit func(day int, x []float64)) {
	k := len(p.Features)
	total := 0
	for _, d := range days {
		total += len(p.days[d]) / k
	}
	n = min(n, total)
	next, passed := 0, 0 // the next of the n rows, and the rows of the days before
	for place, d := range days {
		rows := len(p.days[d]) / k
		for ; next < n && next*total/n < passed+rows; next++ {
			i := next*total/n - passed
			visit(place, p.days[d][i*k:(i+1)*k])
		}
		passed += rows
	}
}

// profile returns the profile of n rows of the days.
func (p *Pool) profile(days []int, n int) (*drift.Profile, error) {
	columns := make([]drift.Column, len(p.Features))
	for j, name := range p.Features {
		columns[j].Name = name
	}
	var of []int
	p.rows(days, n, func(day int, x []float64) {
		for j, v := range x {
			columns[j].Values = append(columns[j].Values, v)
		}
		of = append(of, day)
	})
	return drift.NewProfile(columns, of)
}

// counts returns the counts of n rows of the days.
func (p *Pool) counts(profile *drift.Profile, days []int, n int) *drift.Counts {
	c := drift.NewCounts(profile)
	p.rows(days, n, c.Observe)
	return c
}
