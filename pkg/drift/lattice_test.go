package drift_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

// stationary returns a market whose price reverts to 1 and whose volatility differs between days, without drift. It is
// quoted in ticks of that many basis points; with dither it leaves the grid by up to half a tick.
func stationary(seed uint64, days int, tickBP float64, dither bool) []market.Bar {
	rng, noise := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
	tick := tickBP * 1e-4
	price, vol := 1.0, 4e-4
	on := func(x float64) float64 {
		x = math.Round(x/tick) * tick
		if dither {
			x += tick * (noise.Float64() - 0.5)
		}
		return x
	}
	var bars []market.Bar
	for i := range days * 1440 {
		if i%1440 == 0 {
			vol = 4e-4 * math.Exp(0.25*rng.NormFloat64())
		}
		b := market.Bar{Start: 1_690_848_000_000 + int64(i)*market.MinuteMS, Open: on(price)}
		b.High, b.Low = b.Open, b.Open
		for range 4 {
			price *= math.Exp(vol / 2 * rng.NormFloat64())
			price -= 2e-4 * (price - 1)
			b.Close = on(price)
			b.High, b.Low = max(b.High, b.Close), min(b.Low, b.Close)
		}
		bars = append(bars, b)
	}
	return bars
}

// weekly returns the median over the folds of each feature's index and of the overall index, from 28 days to the next
// 7.
func weekly(t *testing.T, bars []market.Bar) (features map[string]float64, overall float64) {
	t.Helper()
	schema, _ := feature.Lookup("v1.8.1")
	frame, err := feature.Compute(bars)
	if err != nil {
		t.Fatal(err)
	}
	var all []float64
	each := map[string][]float64{}
	for _, f := range folds(t, frame, schema) {
		p := f.profile(t, schema)
		c := f.counts(p, 7)
		if c == nil {
			continue
		}
		v, values := p.PSI(c)
		all = append(all, v)
		for i, x := range values {
			each[p.Features[i].Name] = append(each[p.Features[i].Name], x)
		}
	}
	features = map[string]float64{}
	for name, values := range each {
		features[name] = median(values)
	}
	return features, median(all)
}

// A market without drift shows none, however coarse its tick is. The indices of the returns are small, and the overall
// index equals the index of the same market off the grid.
func TestCoarseTicksAreNotDrift(t *testing.T) {
	for _, bp := range []float64{1, 3, 9} {
		t.Run(fmt.Sprintf("%g bp", bp), func(t *testing.T) {
			t.Parallel()
			const days = 49
			features, overall := weekly(t, stationary(5, days, bp, false))
			_, dithered := weekly(t, stationary(5, days, bp, true))
			t.Logf("overall %.3f, off the grid %.3f; 1 m %.3f, 5 m %.3f", overall, dithered, features["mid_logret_1m_rel"], features["mid_logret_5m_rel"])
			for _, name := range []string{"mid_logret_1m_rel", "mid_logret_5m_rel"} {
				if v := features[name]; !(v < 0.03) {
					t.Errorf("%s: %.3f, want less than 0.03", name, v)
				}
			}
			if !(overall < 0.2) || !(overall < dithered+0.05) {
				t.Errorf("overall %.3f, off the grid %.3f: want no more than 0.05 between", overall, dithered)
			}
		})
	}
}

// latticeRows returns returns in whole ticks, whose size changes from day to day, and the price.
func latticeRows(seed uint64, days int, tick func(day int) float64) ([]drift.Column, []int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	columns := []drift.Column{{Name: "return"}, {Name: "sum"}, {Name: "spread"}}
	var day []int
	for d := range days {
		unit := tick(d) * (1 + 0.1*rng.Float64())
		for range 400 {
			k := math.Round(0.9 * rng.NormFloat64() / tick(d))
			columns[0].Values = append(columns[0].Values, k*unit)
			columns[1].Values = append(columns[1].Values, k*unit+unit*math.Round(rng.NormFloat64()/tick(d)))
			columns[2].Values = append(columns[2].Values, math.Log(unit*float64(1+min(2, int(4*rng.Float64()*rng.Float64())))))
			day = append(day, 19_000+d)
		}
	}
	return columns, day
}

func coarse(int) float64 { return 1 }

// No edge is near a lattice point, and no bin has few rows.
func TestEdgesAreBetweenLatticePoints(t *testing.T) {
	columns, days := latticeRows(1, 28, coarse)
	p := profile(t, columns, days)
	for i, f := range p.Features {
		if f.Unit == 0 || len(f.Values) > 0 || len(f.Edges) == 0 {
			t.Fatalf("%s: unit %v, edges %v, values %v: want a lattice", f.Name, f.Unit, f.Edges, f.Values)
		}
		for _, e := range f.Edges {
			for _, v := range columns[i].Values {
				if math.Abs(e-v) < 0.1 {
					t.Fatalf("%s: edge %v is near the point %v", f.Name, e, v)
				}
			}
		}
		for bin := range len(f.Edges) + 1 {
			if f.Shares[bin] < 0.04 {
				t.Errorf("%s: bin %s has %v of the rows", f.Name, f.BinName(bin), f.Shares[bin])
			}
		}
	}
}

// Values without a lattice keep their deciles: general numbers, a constant, a code, a price far from zero, a price with
// a single point, and the two values of a switch.
func TestNoLattice(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 0))
	names := []string{"normal", "constant", "code", "price", "switch", "score"}
	draw := []func() float64{
		rng.NormFloat64, func() float64 { return 7 }, func() float64 { return float64(rng.IntN(4)) },
		func() float64 { return math.Round(1.37e3+10*rng.NormFloat64()) / 1e3 },
		func() float64 { return float64(1 + rng.IntN(2)) }, rng.Float64,
	}
	var columns []drift.Column
	var days []int
	for j, name := range names {
		c := drift.Column{Name: name}
		for i := range 28 * 200 {
			c.Values = append(c.Values, draw[j]())
			if j == 0 {
				days = append(days, i/200)
			}
		}
		columns = append(columns, c)
	}
	for _, f := range profile(t, columns, days).Features {
		if f.Unit != 0 {
			t.Errorf("%s: a lattice of unit %v, edges %v", f.Name, f.Unit, f.Edges)
		}
	}
}

// The tick changes in the middle of the reference. The bins use the coarser tick, so that neither half drifts.
func TestTickChanges(t *testing.T) {
	columns, days := latticeRows(2, 28, func(day int) float64 {
		if day < 14 {
			return 1
		}
		return 0.1
	})
	p := profile(t, columns[:2], days)
	for _, f := range p.Features {
		if !(f.Unit > 0.9 && f.Unit < 1.2) {
			t.Errorf("%s: unit %v, want that of the coarse half", f.Name, f.Unit)
		}
	}
	for name, tick := range map[string]float64{"coarse": 1, "fine": 0.1} {
		present, presentDays := latticeRows(3, 7, func(int) float64 { return tick })
		overall, features := p.PSI(count(p, present[:2], presentDays))
		if !(overall < 0.1) {
			t.Errorf("%s: overall %v, features %v: want less than 0.1", name, overall, features)
		}
	}
}

// Float noise changes no bin: neither in a profile's rows nor in rows counted with it.
func TestFloatNoiseIsNotDrift(t *testing.T) {
	noisy := func(columns []drift.Column) []drift.Column {
		rng := rand.New(rand.NewPCG(9, 0))
		out := slices.Clone(columns)
		for j := range out {
			out[j].Values = slices.Clone(columns[j].Values)
			for i := range out[j].Values {
				out[j].Values[i] += 1e-12 * (rng.Float64() - 0.5)
			}
		}
		return out
	}
	for name, draw := range map[string]func() ([]drift.Column, []int){
		"lattice":       func() ([]drift.Column, []int) { return latticeRows(1, 28, coarse) },
		"single values": func() ([]drift.Column, []int) { return rows(1, 10, 100) },
	} {
		columns, days := draw()
		p, again := profile(t, columns, days), profile(t, noisy(columns), days)
		for i, f := range p.Features {
			if f.Name == "wander" { // arbitrary numbers: about one in a thousand rows changes its bin
				continue
			}
			if g := again.Features[i]; !slices.Equal(f.Shares, g.Shares) || len(f.Edges) != len(g.Edges) {
				t.Errorf("%s, %s: shares %v with noise, %v without", name, f.Name, g.Shares, f.Shares)
			}
			for j, x := range noisy(columns)[i].Values {
				if f.Bin(x) != f.Bin(columns[i].Values[j]) {
					t.Fatalf("%s, %s: noise changes the bin of %v", name, f.Name, columns[i].Values[j])
				}
			}
		}
		overall, features := p.PSI(count(p, noisy(columns), days))
		if !(overall < 1e-6) {
			t.Errorf("%s: the same rows with noise have %v, %v", name, overall, features)
		}
	}
}

// A profile in the first format keeps its bytes, and so its digest, and its bins: values are not rounded.
func TestFirstProfilesAreJudgedAsTheyAre(t *testing.T) {
	raw := []byte(`{"format":"greenlight/drift_profile/v1","rows":6,"days":[19000,19001],"features":[{"name":"x","role":"feature","edges":[-5e-14,0,5e-14],"values":[0],"shares":[0,0.3333333333333333,0.3333333333333333,0,0.3333333333333333,0,0],"daily":[[0,1,1,0,1,0,0],[0,1,1,0,1,0,0]]}]}`)
	var p drift.Profile
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&p)
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("written again: %s, %v", again, err)
	}
	for x, want := range map[float64]string{0: "v1", 1e-14: "q3", -1e-14: "q2", -6e-14: "q1", 1: "q4"} {
		if got := p.Features[0].BinName(p.Features[0].Bin(x)); got != want {
			t.Errorf("bin of %v: %s, want %s", x, got, want)
		}
	}
	if _, ok := p.Weighted([]float64{1}); ok {
		t.Error("a weighted index without weights")
	}
}

// The weighted index is the mean by weights, has its own noise, and is absent if no weights are known.
func TestWeightedIndex(t *testing.T) {
	columns, days := rows(1, 28, 100)
	columns[0].Weight, columns[1].Weight = 0.25, 0.75
	p := profile(t, columns, days)
	present, presentDays := rows(2, 7, 100)
	s, err := p.Snapshot(count(p, present, presentDays), drift.NewNulls(p, 200, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if s.Weighted == nil || s.Weighted.Noise == nil {
		t.Fatalf("weighted index: %+v", s.Weighted)
	}
	want := 0.25*s.Features[0].PSI + 0.75*s.Features[1].PSI
	if !same(s.Weighted.PSI, want) || s.Features[1].Weight != 0.75 || s.Weighted.Q99 <= s.Weighted.Expected || s.Weighted.Verdict == "" {
		t.Errorf("got %+v, want an index of %v", s.Weighted, want)
	}
	columns[0].Weight, columns[1].Weight = 0, 0
	p = profile(t, columns, days)
	if s, err = p.Snapshot(count(p, present, presentDays), drift.NewNulls(p, 20, 1), drift.DefaultLimits()); err != nil || s.Weighted != nil {
		t.Errorf("without weights: %+v, %v", s.Weighted, err)
	}
	score := []drift.Column{columns[0], {Name: "score", Role: drift.Score, Weight: 1, Values: columns[1].Values}}
	if _, err := drift.NewProfile(score, days); err == nil {
		t.Error("a weight of the score: no error")
	}
}
