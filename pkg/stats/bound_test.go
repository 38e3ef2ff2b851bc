package stats_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// betsOf repeats the bets of the definition.
var betsOf = []float64{0.03, 0.06, 0.125, 0.25, 0.5, 0.9}

// mixture evaluates ln M_n(m) by the definition: the product of 1 + lambda x with 200 digits, and no running sums.
func mixture(x []float64, m float64) float64 {
	const precision = 300
	var terms []float64
	for _, bet := range betsOf {
		product := big.NewFloat(1).SetPrec(precision)
		for _, v := range x {
			factor := new(big.Float).SetPrec(precision).Mul(big.NewFloat(bet), big.NewFloat(v))
			product.Mul(product, factor.Add(factor, big.NewFloat(1)))
		}
		mantissa := new(big.Float)
		exponent := product.MantExp(mantissa)
		f, _ := mantissa.Float64()
		terms = append(terms, math.Log(f)+float64(exponent)*math.Ln2-bet*float64(len(x))*m)
	}
	highest := terms[0]
	for _, t := range terms {
		highest = math.Max(highest, t)
	}
	sum := 0.0
	for _, t := range terms {
		sum += math.Exp(t - highest)
	}
	return highest + math.Log(sum/float64(len(betsOf)))
}

// negated returns -x.
func negated(x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = -v
	}
	return y
}

// The bounds match the definition: M_n is 1/alpha there, or the bound is the end of the range.
func TestMeanBoundAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	for _, n := range []int{1, 2, 10, 100, 1000, 2000} {
		for _, centre := range []float64{0, 0.02, -0.3, 0.9} {
			for _, alpha := range []float64{0.025, 0.3} {
				var b stats.MeanBound
				var x []float64
				for range n {
					x = append(x, max(-1, min(1, centre+0.5*rng.NormFloat64())))
					b.Add(x[len(x)-1])
				}
				check := func(side string, x []float64, bound float64) {
					switch got, want := mixture(x, bound), -math.Log(alpha); {
					case bound == -1:
						if got >= want {
							t.Errorf("n %d, centre %v, %s: M(-1) = exp(%v) excludes more than -1", n, centre, side, got)
						}
					case math.Abs(got-want) > 1e-8*float64(n):
						t.Errorf("n %d, centre %v, alpha %v, %s bound %v: ln M = %v, want %v", n, centre, alpha, side, bound, got, want)
					}
				}
				check("lower", x, b.Lower(alpha))
				check("upper", negated(x), -b.Upper(alpha))
				if b.N() != n {
					t.Errorf("N() = %d, want %d", b.N(), n)
				}
				for _, m := range []float64{-0.5, 0, 0.01, b.Lower(alpha) - 1e-6, b.Lower(alpha) + 1e-6} {
					if got, want := b.Above(m, alpha), mixture(x, m) >= -math.Log(alpha); got != want {
						t.Errorf("Above(%v) = %v, want %v", m, got, want)
					}
					if got, want := b.Below(m, alpha), mixture(negated(x), -m) >= -math.Log(alpha); got != want {
						t.Errorf("Below(%v) = %v, want %v", m, got, want)
					}
				}
			}
		}
	}
}

func TestMeanBoundClosedForms(t *testing.T) {
	var none stats.MeanBound
	if l, u := none.Lower(0.05), none.Upper(0.05); l != -1 || u != 1 {
		t.Errorf("without values: %v to %v, want -1 to 1", l, u)
	}
	if n := none.Needed(-0.1, 0.05); !math.IsInf(n, 1) {
		t.Errorf("without values: %v needed, want +Inf", n)
	}
	// Zeros: A_k = 0. Once the largest bet dominates the mixture, L = -ln(K/alpha)/(0.9 n).
	var zeros stats.MeanBound
	for range 100_000 {
		zeros.Add(0)
	}
	if got, want := zeros.Lower(0.025), -math.Log(6/0.025)/(0.9*100_000); math.Abs(got/want-1) > 0.06 || got < want {
		t.Errorf("zeros: %v, want a little above %v", got, want)
	}
	if zeros.Lower(0.025) != -zeros.Upper(0.025) {
		t.Error("zeros: the bounds are not symmetric")
	}
	// A constant c forever: the bound goes to where ln(1 + 0.03 c) - 0.03 m = 0, the slope of the best bet.
	for _, c := range []float64{-0.8, -0.01, 0.3, 1} {
		var b stats.MeanBound
		for range 10_000_000 / 100 {
			b.Add(c)
		}
		best := math.Inf(-1)
		for _, bet := range betsOf {
			best = max(best, math.Log1p(bet*c)/bet)
		}
		if got := b.Lower(0.05); math.Abs(got-best) > 2e-3 || got > c {
			t.Errorf("constant %v: %v, want near %v and below the constant", c, got, best)
		}
	}
	// A million of the largest values neither overflow nor lose the bound.
	var long stats.MeanBound
	for range 1_000_000 {
		long.Add(1)
	}
	if got := long.Lower(1e-9); !(got > 0.98 && got <= 1) || long.Upper(1e-9) != 1 {
		t.Errorf("a million ones: %v to %v", got, long.Upper(1e-9))
	}
}

func TestLeastCount(t *testing.T) {
	for _, margin := range []float64{0.01, 0.05, 0.3} {
		n := int(math.Ceil(stats.LeastCount(margin, 0.025)))
		var b stats.MeanBound
		for range n {
			b.Add(0)
		}
		if !b.Above(-margin, 0.025) {
			t.Errorf("margin %v: %d zeros are not enough", margin, n)
		}
		if needed := b.Needed(-margin, 0.025); needed > float64(n) || needed < 0.8*float64(n) {
			t.Errorf("margin %v: %v zeros needed, want at most %d", margin, needed, n)
		}
	}
}

// Needed is when the bound is reached if the same values repeat.
func TestNeeded(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 0))
	for _, centre := range []float64{0.1, 0.01, -0.02} {
		var first, b stats.MeanBound
		x := make([]float64, 200)
		for i := range x {
			x[i] = max(-1, min(1, centre+0.1*rng.NormFloat64()))
			first.Add(x[i])
		}
		want := first.Needed(-0.05, 0.025)
		n := 0
		for ; !b.Above(-0.05, 0.025); n++ {
			b.Add(x[n%len(x)])
		}
		if math.Abs(want-float64(n)) > 0.15*float64(n)+5 {
			t.Errorf("centre %v: %v needed, reached after %d", centre, want, n)
		}
		if got := first.Needed(centre+0.2, 0.025); !math.IsInf(got, 1) {
			t.Errorf("centre %v: %v needed for more than the mean, want +Inf", centre, got)
		}
	}
}

func TestMeanBoundProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 0))
	for range 50 {
		var b, higher, mirrored stats.MeanBound
		mean := 0.0
		n := 1 + rng.IntN(300)
		for range n {
			x := 2*rng.Float64() - 1
			b.Add(x)
			higher.Add(min(1, x+0.3*rng.Float64()))
			mirrored.Add(-x)
			mean += x / float64(n)
		}
		l, u := b.Lower(0.05), b.Upper(0.05)
		if !(l <= mean && mean <= u) || l < -1 || u > 1 {
			t.Errorf("mean %v is not within %v to %v", mean, l, u)
		}
		if higher.Lower(0.05) < l || higher.Upper(0.05) < u {
			t.Error("higher values have lower bounds")
		}
		if b.Lower(0.01) > l || b.Upper(0.01) < u {
			t.Error("a smaller alpha gives a narrower interval")
		}
		if mirrored.Lower(0.05) != -u || mirrored.Upper(0.05) != -l {
			t.Error("the bounds of the negated values are not the negated bounds")
		}
	}
}

// Ville: with means that depend on the past, the bound ever exceeds their running mean in at most alpha of the runs.
func TestMeanBoundCoverage(t *testing.T) {
	const runs, values, alpha = 1000, 300, 0.05
	means := map[string]func(i int, last float64, rng *rand.Rand) float64{
		"constant":           func(int, float64, *rand.Rand) float64 { return 0.05 },
		"drifting":           func(i int, _ float64, _ *rand.Rand) float64 { return 0.2 * math.Sin(float64(i)/40) },
		"switching":          func(i int, _ float64, _ *rand.Rand) float64 { return 0.15 * float64(1-2*(i/60%2)) },
		"following the past": func(_ int, last float64, _ *rand.Rand) float64 { return -0.3 * last },
	}
	for name, mean := range means {
		t.Run(name, func(t *testing.T) {
			above, below := 0, 0
			for run := range runs {
				rng := rand.New(rand.NewPCG(uint64(run), 14))
				var b stats.MeanBound
				sum, last, wasAbove, wasBelow := 0.0, 0.0, false, false
				for i := range values {
					m := mean(i, last, rng)
					last = -1.0
					if rng.Float64() < (1+m)/2 { // the largest possible noise
						last = 1
					}
					b.Add(last)
					sum += m
					wasAbove = wasAbove || b.Above(sum/float64(i+1)+1e-12, alpha)
					wasBelow = wasBelow || b.Below(sum/float64(i+1)-1e-12, alpha)
				}
				above += boolean(wasAbove)
				below += boolean(wasBelow)
			}
			// Three standard errors of a binomial proportion.
			most := runs * (alpha + 3*math.Sqrt(alpha*(1-alpha)/runs))
			if float64(above) > most || float64(below) > most {
				t.Errorf("wrong in %d and %d of %d runs, want at most %.0f each", above, below, runs, most)
			}
			t.Logf("wrong in %d and %d of %d runs", above, below, runs)
		})
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestDetector(t *testing.T) {
	var zeros stats.Detector
	for n := 1; n <= 1000; n++ {
		if got := zeros.Add(0); got != float64(n) {
			t.Fatalf("after %d zeros: %v, want %d", n, got, n)
		}
	}
	// By the definition.
	rng := rand.New(rand.NewPCG(15, 0))
	var d stats.Detector
	s := make([]float64, len(betsOf))
	for range 500 {
		z := 2*rng.Float64() - 1
		got, want := d.Add(z), 0.0
		for k, bet := range betsOf {
			s[k] = (s[k] + 1) * (1 + bet*z)
			want += s[k] / float64(len(s))
		}
		if math.Abs(got-want) > 1e-9*want {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	var long stats.Detector
	last := 0.0
	for range 100_000 {
		last = long.Add(1)
	}
	if math.IsInf(last, 0) || !(last > 1e299) {
		t.Errorf("after 100,000 ones: %v, want a large finite number", last)
	}
}

// Without a change the mean time to an alarm is at least C; after a change the alarm comes soon.
func TestDetectorTimes(t *testing.T) {
	const runs, threshold, most = 300, 200.0, 4000
	sum, after := 0, 0
	for run := range runs {
		rng := rand.New(rand.NewPCG(uint64(run), 16))
		var d, changed stats.Detector
		n := 0
		for ; n < most && d.Add(2*rng.Float64()-1) < threshold; n++ {
		}
		sum += n
		n = 0
		for ; n < most && changed.Add(min(1, 2*rng.Float64()-0.6)) < threshold; n++ {
		}
		after += n
	}
	if mean := float64(sum) / runs; mean < threshold {
		t.Errorf("a false alarm after %v values on average, want at least %v", mean, threshold)
	}
	if mean := float64(after) / runs; mean > 80 {
		t.Errorf("an alarm %v values after the change, want at most 80", mean)
	}
}
