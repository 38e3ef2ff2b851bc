package market

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// facts are the stylised facts of one-minute returns, in basis points.
type facts struct {
	kurtosis       float64
	clustering     [3]float64 // autocorrelation of |r| at 1, 15 and 60 minutes
	direction      float64    // autocorrelation of r at 5 minutes: about zero
	spreadVol      float64    // correlation of ln spread with ln volatility of the last hour
	peakOverTrough float64    // mean |r| of the busiest hour of the day divided by that of the quietest
	forecastAUC    float64
	sigma          float64
}

func factsOf(bars []Bar) facts {
	r := make([]float64, len(bars))
	for i := 1; i < len(bars); i++ {
		r[i] = 1e4 * math.Log(bars[i].Close/bars[i-1].Close)
	}
	size := make([]float64, len(r))
	hours := [24][2]float64{}
	for i, x := range r {
		size[i] = math.Abs(x)
		h := bars[i].Start / 3_600_000 % 24
		hours[h][0] += size[i]
		hours[h][1]++
	}
	low, high := math.Inf(1), 0.0
	for _, h := range hours {
		low, high = min(low, h[0]/h[1]), max(high, h[0]/h[1])
	}
	var f facts
	f.kurtosis, f.sigma = kurtosis(r)
	for i, lag := range []int{1, 15, 60} {
		f.clustering[i] = correlation(size[lag:], size[:len(size)-lag])
	}
	f.direction = correlation(r[5:], r[:len(r)-5])
	vol := hourVolatility(r)
	var lnVol, lnSpread []float64
	for i := 60; i < len(bars); i++ {
		lnVol = append(lnVol, math.Log(vol[i]))
		lnSpread = append(lnSpread, math.Log((bars[i].Ask-bars[i].Bid)/bars[i].Close))
	}
	f.spreadVol = correlation(lnVol, lnSpread)
	f.peakOverTrough = high / low
	f.forecastAUC = forecastAUC(bars, vol)
	return f
}

// hourVolatility returns the root mean square of the last 60 returns.
func hourVolatility(r []float64) []float64 {
	vol := make([]float64, len(r))
	sum := 0.0
	for i, x := range r {
		sum += x * x
		if i >= 60 {
			sum -= r[i-60] * r[i-60]
		}
		vol[i] = math.Sqrt(max(sum, 0) / 60)
	}
	return vol
}

// forecastAUC returns how well vol1m/sigma_ref ranks the label: c is the 0.72 quantile of all rows,
// and sigma_ref the median of the last seven days' volatilities.
func forecastAUC(bars []Bar, vol []float64) float64 {
	const day = 24 * 60
	type row struct{ score, move float64 }
	var rows []row
	var days []float64
	for d := 0; (d+1)*day <= len(bars); d++ {
		if n := len(days); n > 0 {
			last := slices.Sorted(slices.Values(days[max(0, n-7):]))
			ref := (last[(len(last)-1)/2] + last[len(last)/2]) / 2
			for i := d * day; i < (d+1)*day && i+15 < len(bars); i++ {
				low, high := math.Inf(1), 0.0
				for _, b := range bars[i+1 : i+16] {
					low, high = min(low, b.Close), max(high, b.Close)
				}
				rows = append(rows, row{vol[i] / ref, math.Log(high/low) / ref})
			}
		}
		sum := 0.0
		for i := d * day; i < (d+1)*day; i++ {
			x := 0.0
			if i > 0 {
				x = 1e4 * math.Log(bars[i].Close/bars[i-1].Close)
			}
			sum += x * x
		}
		days = append(days, math.Sqrt(sum/day))
	}
	moves := make([]float64, len(rows))
	for i, x := range rows {
		moves[i] = x.move
	}
	slices.Sort(moves)
	c := moves[int(0.72*float64(len(moves)))]
	slices.SortFunc(rows, func(a, b row) int {
		if a.score < b.score {
			return -1
		}
		return 1
	})
	ranks, positives := 0.0, 0.0
	for i, x := range rows {
		if x.move > c {
			ranks += float64(i + 1)
			positives++
		}
	}
	return (ranks - positives*(positives+1)/2) / (positives * (float64(len(rows)) - positives))
}

func kurtosis(x []float64) (k, sd float64) {
	var m2, m4 float64
	for _, v := range x {
		m2 += v * v
		m4 += v * v * v * v
	}
	n := float64(len(x))
	return m4 / n / (m2 / n * m2 / n), math.Sqrt(m2 / n)
}

func correlation(x, y []float64) float64 {
	var sx, sy, sxx, syy, sxy float64
	n := float64(len(x))
	for i := range x {
		sx += x[i]
		sy += y[i]
		sxx += x[i] * x[i]
		syy += y[i] * y[i]
		sxy += x[i] * y[i]
	}
	return (sxy/n - sx/n*sy/n) / math.Sqrt((sxx/n-sx/n*sx/n)*(syy/n-sy/n*sy/n))
}

func TestSimulateStylisedFacts(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := factsOf(mustSimulate(t, SimulateOptions{Seed: seed}).Series().Bars)
			t.Logf("%+v", f)
			within := func(name string, got, low, high float64) {
				t.Helper()
				if !(got >= low && got <= high) {
					t.Errorf("%s: got %.3f, want %v to %v", name, got, low, high)
				}
			}
			within("kurtosis of returns", f.kurtosis, 4, 150)
			within("autocorrelation of |r|, 1 minute", f.clustering[0], 0.1, 0.6)
			within("autocorrelation of |r|, 15 minutes", f.clustering[1], 0.08, 0.5)
			within("autocorrelation of |r|, 60 minutes", f.clustering[2], 0.05, 0.5)
			within("autocorrelation of r, 5 minutes", f.direction, -0.03, 0.03)
			within("correlation of spread and volatility", f.spreadVol, 0.3, 0.95)
			within("busiest hour over quietest", f.peakOverTrough, 1.5, 4)
			within("AUC of a volatility forecast", f.forecastAUC, 0.75, 0.87)
			within("volatility in bp per sqrt(minute)", f.sigma, 4, 12)
		})
	}
}
