package retrain

import (
	"math"
	"slices"
	"testing"
)

func TestValidate(t *testing.T) {
	p := population(t, data(t))
	v, err := Validate(p)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Health{}
	for _, h := range v.Features {
		byName[h.Feature] = h
		if h.ADF == nil || h.ADF.N > adfValues || h.Halves == nil || h.Missing < 0 || h.Missing > 1 {
			t.Errorf("%s: %+v is incomplete", h.Feature, h)
		}
	}
	if len(byName) != len(p.Features()) || len(byName) < 11 {
		t.Fatalf("%d features, want %d, at least 11", len(byName), len(p.Features()))
	}
	if h := byName["mid"]; h.InCandidate || !slices.Contains(h.Flags, "unit root") || h.Status() == "ok" {
		t.Errorf("mid: %+v: a price is a random walk, and not of v1.8.1", h)
	}
	if h := byName["mid_logret_1m_rel"]; !h.InCandidate || h.Status() != "ok" {
		t.Errorf("mid_logret_1m_rel: %+v: returns are stationary, and of v1.8.1", h)
	}
	if v.FirstHalfDays+v.SecondHalfDays != v.Days {
		t.Errorf("halves of %d and %d days, want %d in all", v.FirstHalfDays, v.SecondHalfDays, v.Days)
	}
}

func TestCorrelation(t *testing.T) {
	x := []float64{1, 2, 3, 4, 5}
	c := newCorrelation([]string{"x", "minus", "flat", "other"}, [][]float64{x, {-2, -4, -6, -8, -10}, {7, 7, 7, 7, 7}, {1, -1, 1, -1, 1}})
	if len(c.Flagged) != 1 || c.Flagged[0].A != "x" || c.Flagged[0].B != "minus" || math.Abs(c.Flagged[0].R+1) > 1e-12 {
		t.Errorf("flagged %+v, want x and minus at -1", c.Flagged)
	}
	if c.Matrix[2][0] != nil || c.Matrix[2][2] != nil {
		t.Error("a constant has a correlation")
	}
	if got := *c.Matrix[3][0]; math.Abs(got) > 1e-12 {
		t.Errorf("x and other: %v, want 0", got)
	}
}

// TestMissing counts from the first row, after the features have warmed up.
func TestMissing(t *testing.T) {
	p := population(t, data(t))
	if got := p.missing("zscore_mid_24h"); got != 0 {
		t.Errorf("%v missing, want 0", got)
	}
	column := p.Frame.Column("vol1m")
	old := slices.Clone(column)
	defer copy(column, old)
	first := p.Rows.Minute[0]
	n := len(column) - first
	for i := range n / 4 {
		column[first+i] = math.NaN()
	}
	if got, want := p.missing("vol1m"), float64(n/4)/float64(n); got != want {
		t.Errorf("%v missing, want %v", got, want)
	}
}

func TestThin(t *testing.T) {
	x := []float64{0, 1, 2, 3, 4, 5, 6}
	for _, tt := range []struct {
		step int
		want []float64
	}{{1, x}, {3, []float64{0, 3, 6}}, {7, []float64{0}}} {
		if got := thin(x, tt.step); !slices.Equal(got, tt.want) {
			t.Errorf("every %d: got %v, want %v", tt.step, got, tt.want)
		}
	}
}
