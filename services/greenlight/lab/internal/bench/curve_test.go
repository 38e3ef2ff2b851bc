package bench

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

func curve(more bool, values ...float64) Curve {
	c := Curve{Of: "rows", Measure: "cost", Unit: "us", More: more}
	for i, v := range values {
		c.Points = append(c.Points, Point{Size: 1 << i, Value: Spread{Median: v, Min: v, Max: v, Rounds: 1}})
	}
	return c
}

func TestBends(t *testing.T) {
	for _, tt := range []struct {
		name       string
		curve      Curve
		flat, bent int
	}{
		{"falls to its best", curve(false, 100, 50, 12, 10), 4, 0},
		{"flat, then bends", curve(false, 10, 11, 10, 14, 15, 40), 1, 16},
		{"a rate that falls", curve(true, 100, 120, 100, 80, 20), 1, 8},
		{"a rate that rises", curve(true, 10, 50, 100), 4, 0},
		{"one size", curve(false, 7), 1, 0},
		{"none", Curve{}, 0, 0},
	} {
		if flat, bent := tt.curve.Bends(); flat != tt.flat || bent != tt.bent {
			t.Errorf("%s: best from %d, worse from %d, want %d and %d", tt.name, flat, bent, tt.flat, tt.bent)
		}
	}
}

func TestScaleTable(t *testing.T) {
	s := Scale{Header: Header{Rounds: 3, Machine: rig.Machine{CPUs: 2, OtherLoad: -1}}, Curves: []Curve{curve(false, 123.4, 45.67, 1.234), curve(true, 10, 5, 1)}}
	s.Curves[1].Of = "calls"
	var b strings.Builder
	if err := s.Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rows       1    2     4     best from  worse from", "cost (us)  123  45.7  1.23  4          -", "cost (us)  10.0  5.00  1.00  1          2", "medians of 3 rounds"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// The provisioned cores are rate times cost, computed by hand: 1,000 a second at 200 us are a fifth of a core, and two fifths
// at half load.
func TestCapacities(t *testing.T) {
	points := func(costs ...float64) (list []Point) {
		for i, v := range costs {
			list = append(list, Point{Size: []int{500, 2000, 20_000}[i], Value: Spread{Median: v}})
		}
		return list
	}
	s := Scale{Curves: []Curve{
		{Of: ofRates, Measure: engineCPU, Points: points(100, 20, 5)},
		{Of: ofRates, Measure: executorCPU, Points: points(200, 100, 80)},
	}}
	want := []Capacity{{1000, 0.4, 0.2, 500}, {10_000, 2, 0.4, 2000}, {100_000, 16, 1, 20_000}}
	got := s.Capacities()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i, w := range want {
		if g := got[i]; g.Rate != w.Rate || g.MeasuredAt != w.MeasuredAt || math.Abs(g.ExecutorCores-w.ExecutorCores) > 1e-9 || math.Abs(g.EngineCores-w.EngineCores) > 1e-9 {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	var b strings.Builder
	if err := s.Table(&b); err != nil || !strings.Contains(b.String(), "cores 50 % busy") || !strings.Contains(b.String(), "20000/s") {
		t.Errorf("%v in\n%s", err, b.String())
	}
	// A system that does not report CPU times has no capacities. Only rates above the lowest measured one have a capacity.
	for _, curves := range [][]Curve{nil, s.Curves[:1], {s.Curves[0], {Of: ofRates, Measure: executorCPU, Points: points(0, 0, 0)}}} {
		if got := (&Scale{Curves: curves}).Capacities(); got != nil {
			t.Errorf("got %v, want none", got)
		}
	}
}

// TestMadeUpTrees checks that the timed trees are complete: their number, their depth, and no two equal scores.
func TestMadeUpTrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	_, e, err := ensemble(rng, 10)
	if err != nil {
		t.Fatal(err)
	}
	if e.Trees() != 10 || e.Nodes() != 10*(63+64) {
		t.Errorf("got %d trees of %d nodes, want 10 of %d", e.Trees(), e.Nodes(), 10*(63+64))
	}
	scores := map[float64]bool{}
	for _, x := range vectors(rng, 7)[:100] {
		scores[e.Score(x)] = true
	}
	if len(scores) < 99 {
		t.Errorf("100 states have %d different scores", len(scores))
	}
}
