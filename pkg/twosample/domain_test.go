package twosample_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
)

var names = []string{"a", "b", "c"}

// sample returns days of rows that depend on each other within a day: a level of the day plus noise. b is correlated
// with a by rho; the margins are equal for any rho.
func sample(rng *rand.Rand, from, days, perDay int, shift, rho float64) twosample.Sample {
	var s twosample.Sample
	for d := range days {
		level := 0.5 * rng.NormFloat64()
		for range perDay {
			a := math.Sqrt(0.75)*rng.NormFloat64() + level
			b := rho*a + math.Sqrt(1-rho*rho)*rng.NormFloat64()
			s.X = append(s.X, a, b, rng.NormFloat64()+shift)
			s.Days = append(s.Days, from+d)
		}
	}
	return s
}

func fast() twosample.Options {
	o := twosample.DefaultOptions()
	o.MaxRows, o.Permutations = 600, 99
	return o
}

func classify(t *testing.T, reference, present twosample.Sample, o twosample.Options) *twosample.Result {
	t.Helper()
	r, err := twosample.Classify(names, reference, present, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestShiftIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	r := classify(t, sample(rng, 0, 20, 60, 0, 0), sample(rng, 100, 8, 60, 1.5, 0), fast())
	// A normal shifted by 1.5 standard deviations: AUC = Phi(1.5/sqrt 2) = 0.856.
	if want := 0.5 * math.Erfc(-1.5/2); math.Abs(r.AUC-want) > 0.03 || r.P != 0.01 || r.Verdict != gate.Fail || r.LeansOn[0].Input != "c" {
		t.Errorf("got %+v, want an AUC of %.3f and a FAIL that leans on c", r, want)
	}
	if r.ReferenceRows != 600 || r.ReferenceDays != 20 || r.Rows != 480 || r.Days != 8 {
		t.Errorf("looked at %+v", r)
	}
}

// Two features with a new correlation fill the same bins: PSI misses the change, the classifier finds it.
func TestCorrelationIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	reference, present := sample(rng, 0, 20, 100, 0, 0), sample(rng, 100, 10, 100, 0, 0.8)
	columns := make([]drift.Column, len(names))
	for j := range columns {
		columns[j].Name = names[j]
		for i := j; i < len(reference.X); i += len(names) {
			columns[j].Values = append(columns[j].Values, reference.X[i])
		}
	}
	p, err := drift.NewProfile(columns, reference.Days)
	if err != nil {
		t.Fatal(err)
	}
	c := drift.NewCounts(p)
	for i, day := range present.Days {
		c.Observe(day, present.X[i*len(names):(i+1)*len(names)])
	}
	s, err := p.Snapshot(c, drift.NewNulls(p, 200, 1), drift.DefaultLimits())
	if err != nil || s.Overall.Verdict != gate.Pass {
		t.Errorf("PSI: got %+v, %v, want PASS", s.Overall, err)
	}
	if r := classify(t, reference, present, fast()); r.Verdict != gate.Fail || r.LeansOn[0].Input != "a*b" {
		t.Errorf("got %+v, want a FAIL that leans on a*b", r)
	}
}

// Without drift p-values are uniform: about 5 % of them are below 5 %, although the rows of a day depend on each other.
func TestFalseAlarms(t *testing.T) {
	const trials = 150
	low, fails := 0, 0
	for seed := range uint64(trials) {
		rng := rand.New(rand.NewPCG(seed, 7))
		o := fast()
		o.MaxRows, o.Permutations, o.Seed = 200, 39, seed
		r := classify(t, sample(rng, 0, 14, 30, 0, 0.3), sample(rng, 100, 7, 30, 0, 0.3), o)
		if r.P <= 0.05 {
			low++
		}
		if r.Verdict == gate.Fail {
			fails++
		}
	}
	// The expected share of p-values at most 2/40 is 5 %; 99.9 % of binomial(150, 0.05) is at most 17.
	if _, high := stats.Wilson(uint64(low), trials, 3.3); low > 17 || high < 0.05 {
		t.Errorf("%d of %d p-values are at most 0.05", low, trials)
	}
	if fails > 0 {
		t.Errorf("%d FAIL with 39 permutations, which cannot reach 0.01", fails)
	}
}

// If nothing has changed, few exchanges suffice, and an early p-value never leads to FAIL. If something has changed,
// all exchanges are computed.
func TestEndsEarly(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	reference, same, moved := sample(rng, 0, 14, 30, 0, 0), sample(rng, 100, 7, 30, 0, 0), sample(rng, 100, 7, 30, 1, 0)
	o := fast()
	r := classify(t, reference, same, o)
	// Out of 99 exchanges, 5 that reach the AUC would give a p-value above 5 %.
	if r.Permutations >= 99 || math.Abs(r.P*float64(r.Permutations)-5) > 1e-9 || r.P <= 0.05 || r.Verdict != gate.Pass {
		t.Errorf("the same: got %+v, want the share of 5 in fewer than 99 exchanges", r)
	}
	// The first exchanges are the same in a longer test: with exactly as many, the fifth is the last.
	o.Permutations = r.Permutations
	if again := classify(t, reference, same, o); again.AUC != r.AUC || again.Permutations > r.Permutations {
		t.Errorf("as many as it took: got %+v, want %+v", again, r)
	}
	if r = classify(t, reference, moved, fast()); r.Permutations != 99 || r.P != 0.01 {
		t.Errorf("moved: got %+v, want all of 99 exchanges", r)
	}
}

func TestRowsThatAreLeftOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	reference, present := sample(rng, 0, 10, 60, 0, 0), sample(rng, 100, 6, 60, 0, 0)
	reference.X[4], reference.X[5], present.X[0] = math.NaN(), math.Inf(1), math.NaN()
	o := fast()
	o.MaxRows = 10_000
	r := classify(t, reference, present, o)
	if r.Incomplete != 2 || r.ReferenceRows != 599 || r.Rows != 359 {
		t.Errorf("got %+v", r)
	}
	// Neither the order of rows within days nor repetition changes anything.
	if again := classify(t, reference, present, o); again.AUC != r.AUC || again.P != r.P {
		t.Errorf("again: got %v, %v, want %v, %v", again.AUC, again.P, r.AUC, r.P)
	}
	few := classify(t, reference, sample(rng, 100, 4, 60, 3, 0), o)
	if few.Verdict != gate.Inconclusive || !strings.Contains(few.Reason, "4 of the present") {
		t.Errorf("few days: got %+v", few)
	}
}

func TestErrors(t *testing.T) {
	good := sample(rand.New(rand.NewPCG(3, 0)), 0, 6, 10, 0, 0)
	for name, tt := range map[string]struct {
		names   []string
		present twosample.Sample
		change  func(*twosample.Options)
		mention string
	}{
		"shape":       {names, twosample.Sample{X: []float64{1, 2}, Days: []int{1}}, nil, "2 values in 1 rows of 3"},
		"no features": {nil, good, nil, "of 0 features"},
		"folds":       {names, good, func(o *twosample.Options) { o.Folds = 1 }, "1 folds"},
	} {
		o := fast()
		if tt.change != nil {
			tt.change(&o)
		}
		if _, err := twosample.Classify(tt.names, good, tt.present, o); err == nil || !strings.Contains(err.Error(), tt.mention) {
			t.Errorf("%s: got %v, want mention of %q", name, err, tt.mention)
		}
	}
}
