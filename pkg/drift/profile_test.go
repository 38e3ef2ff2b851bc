package drift_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

var (
	nan = math.NaN()
	inf = math.Inf(1)
)

// profile returns a profile, or fails the test.
func profile(t testing.TB, columns []drift.Column, days []int) *drift.Profile {
	t.Helper()
	p, err := drift.NewProfile(columns, days)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// count counts rows given as columns.
func count(p *drift.Profile, columns []drift.Column, days []int) *drift.Counts {
	c := drift.NewCounts(p)
	x := make([]float64, len(columns))
	for i, day := range days {
		for j := range x {
			x[j] = columns[j].Values[i]
		}
		c.Observe(day, x)
	}
	return c
}

// rows draws rows of three features, day by day: one that wanders with the day, one in a few steps, and a constant.
func rows(seed uint64, days, perDay int) ([]drift.Column, []int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	columns := []drift.Column{{Name: "wander"}, {Name: "steps"}, {Name: "one"}}
	var day []int
	for d := range days {
		level := 0.5 * rng.NormFloat64()
		for range perDay {
			columns[0].Values = append(columns[0].Values, level+rng.NormFloat64())
			columns[1].Values = append(columns[1].Values, math.Floor(4*rng.ExpFloat64())/10)
			columns[2].Values = append(columns[2].Values, 1)
			day = append(day, 19_000+d)
		}
	}
	return columns, day
}

func upTo(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(i + 1)
	}
	return v
}

func TestBins(t *testing.T) {
	hundred := upTo(100)
	steps := slices.Concat(slices.Repeat([]float64{0}, 40), slices.Repeat([]float64{7}, 5), slices.Repeat([]float64{8}, 4))
	for _, v := range upTo(51) {
		steps = append(steps, 100+v)
	}
	tests := []struct {
		name   string
		values []float64
		domain *drift.Domain
		edges  []float64 // nil means not checked
		single []float64
		bins   map[float64]string
	}{
		{
			"deciles", hundred, nil,
			// Type 7: the i-th edge is at 1 + 99 i/10.
			[]float64{10.9, 20.8, 30.7, 40.6, 50.5, 60.4, 70.3, 80.2, 90.1},
			[]float64{},
			map[float64]string{
				-5: "q1", 10.9: "q1", math.Nextafter(10.9, 11): "q2", 50.5: "q5", 90.1: "q9", 90.2: "q10", 1e300: "q10",
				nan: "missing", inf: "out_of_domain", -inf: "out_of_domain", math.MaxFloat64: "q10", -math.MaxFloat64: "q1",
			},
		},
		{
			// 5 of 100 rows make a bin, 4 do not.
			"single values", steps, nil,
			[]float64{0, 4.2, 101.5, 111.4, 121.3, 131.2, 141.1},
			[]float64{0, 7},
			// Float noise stays with its value.
			map[float64]string{
				0: "v1", 7: "v2", 8: "q3", math.Nextafter(7, 8): "v2", 7.000001: "q3", 1e-300: "v1", -1e-300: "v1", 1e-6: "q2", -1e-6: "q1", 141.2: "q8",
			},
		},
		{
			"constant", slices.Repeat([]float64{1}, 30), nil,
			[]float64{1},
			[]float64{1},
			map[float64]string{1: "v1", 0.999: "q1", 1.001: "q2"},
		},
		{
			"domain", hundred, &drift.Domain{Low: 1, High: 90}, nil,
			[]float64{},
			map[float64]string{1: "q1", 0.999: "out_of_domain", 90: "q10", 90.001: "out_of_domain", -inf: "out_of_domain", nan: "missing"},
		},
		{
			"never there", slices.Repeat([]float64{nan}, 10), nil,
			[]float64{},
			[]float64{},
			map[float64]string{3: "q1", nan: "missing", inf: "out_of_domain"},
		},
		{
			"two values", slices.Concat(slices.Repeat([]float64{1}, 50), slices.Repeat([]float64{2}, 50)), nil,
			[]float64{1, 1.5, 2},
			[]float64{1, 2},
			map[float64]string{1: "v1", 2: "v2", 0: "q1", 1.2: "q2", 1.6: "q3", 3: "q4"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := profile(t, []drift.Column{{Name: "x", Domain: tt.domain, Values: tt.values}}, make([]int, len(tt.values)))
			f := p.Features[0]
			if tt.edges != nil && !slices.EqualFunc(f.Edges, tt.edges, same) {
				t.Errorf("edges: got %v, want %v", f.Edges, tt.edges)
			}
			if !slices.Equal(f.Values, tt.single) {
				t.Errorf("single values: got %v, want %v", f.Values, tt.single)
			}
			if f.Bin(0) != f.Bin(math.Copysign(0, -1)) {
				t.Error("0 and -0 are in different bins")
			}
			for x, want := range tt.bins {
				if got := f.BinName(f.Bin(x)); got != want {
					t.Errorf("bin of %v: got %s, want %s", x, got, want)
				}
			}
			total := 0.0
			for _, s := range f.Shares {
				total += s
			}
			if !same(total, 1) {
				t.Errorf("shares add up to %v", total)
			}
		})
	}
}

// The search agrees with the definition: the number of edges strictly below, unless the value has its own bin.
func TestBinIsAsDefined(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	for range 200 {
		values := make([]float64, 50+rng.IntN(200))
		for i := range values {
			values[i] = math.Floor(10*rng.NormFloat64()) / 4
			if rng.IntN(3) == 0 {
				values[i] = rng.NormFloat64()
			}
		}
		var domain *drift.Domain
		if rng.IntN(2) == 0 {
			domain = &drift.Domain{Low: -2, High: float64(rng.IntN(3))}
		}
		f := profile(t, []drift.Column{{Name: "x", Domain: domain, Values: values}}, make([]int, len(values))).Features[0]
		probes := slices.Concat(values, f.Edges, f.Values, []float64{nan, inf, -inf, 0, -2, 2, math.MaxFloat64, -math.MaxFloat64})
		for _, v := range probes {
			for _, x := range []float64{v, math.Nextafter(v, inf), math.Nextafter(v, -inf)} {
				if got, want := f.BinName(f.Bin(x)), byDefinition(f, x); got != want {
					t.Fatalf("bin of %v among edges %v and values %v in %v: got %s, want %s", x, f.Edges, f.Values, domain, got, want)
				}
			}
		}
	}
}

func byDefinition(f drift.Feature, x float64) string {
	low, high := -math.MaxFloat64, math.MaxFloat64
	if f.Domain != nil {
		low, high = f.Domain.Low, f.Domain.High
	}
	if math.IsNaN(x) {
		return drift.Missing
	}
	if x < low || x > high {
		return drift.OutOfDomain
	}
	for i, v := range f.Values {
		if v-f.Step/2 < x && x <= v+f.Step/2 {
			return "v" + string(rune('1'+i)) // at most 9 in these tests, or the name would not match
		}
	}
	below := 0
	for _, e := range f.Edges {
		if e < x {
			below++
		}
	}
	return []string{"q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10"}[below]
}

func TestBinRange(t *testing.T) {
	values := append(upTo(100), slices.Repeat([]float64{50.5}, 20)...)
	f := profile(t, []drift.Column{{Name: "x", Values: values}}, make([]int, len(values))).Features[0]
	var got []string
	for bin := range f.Bins() {
		got = append(got, f.BinName(bin)+" "+f.BinRange(bin))
	}
	want := []string{
		"q1 <= 12.9", "q2 (12.9, 24.8]", "q3 (24.8, 36.7]", "q4 (36.7, 48.6]", "q5 (48.6, 50.5]", "q6 (50.5, 52.4]",
		"q7 (52.4, 64.3]", "q8 (64.3, 76.2]", "q9 (76.2, 88.1]", "q10 > 88.1", "v1 = 50.5", "missing missing", "out_of_domain out of domain",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProfileJSON(t *testing.T) {
	columns, days := rows(1, 6, 50)
	columns[0].Domain = &drift.Domain{Low: -10, High: 10}
	p := profile(t, columns, days)
	p.Ranges = []drift.Range{{Name: "wander", Low: -3.5, High: 3}, {Name: "one", Low: 1, High: 1}}
	p.Ranges = []drift.Range{{Name: "wander", Low: -3.5, High: 3}, {Name: "one", Low: 1, High: 1}}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	// The same rows in another order give the same profile, byte for byte.
	rng := rand.New(rand.NewPCG(3, 0))
	order := rng.Perm(len(days))
	shuffled, shuffledDays := slices.Clone(columns), make([]int, len(days))
	for j := range shuffled {
		shuffled[j].Values = make([]float64, len(days))
		for to, from := range order {
			shuffled[j].Values[to] = columns[j].Values[from]
			shuffledDays[to] = days[from]
		}
	}
	other := profile(t, shuffled, shuffledDays)
	other.Ranges = p.Ranges
	again, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, raw) {
		t.Errorf("in another order: got %s, want %s", again, raw)
	}
	var back drift.Profile
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, p) {
		t.Errorf("read back: got %+v, want %+v", &back, p)
	}
}

// The ranges are the exact quantiles at 1/2000 and 1999/2000 of the sorted values, in rational numbers.
func TestRanges(t *testing.T) {
	const parts = 2000
	quantile := func(values []float64, k int) float64 {
		left := slices.Clone(values)
		smallest := func() *big.Rat { // removes it
			at := 0
			for i, v := range left {
				if v < left[at] {
					at = i
				}
			}
			v := left[at]
			left = slices.Delete(left, at, at+1)
			return new(big.Rat).SetFloat64(v)
		}
		h := (len(values) - 1) * k // in parts of a position
		var low, high *big.Rat
		for range h/parts + 1 {
			low = smallest()
		}
		if high = low; h%parts > 0 {
			high = smallest()
		}
		step := new(big.Rat).Sub(high, low)
		v, _ := step.Mul(step, big.NewRat(int64(h%parts), parts)).Add(step, low).Float64()
		return v
	}
	rng := rand.New(rand.NewPCG(5, 0))
	for _, n := range []int{1, 2, 3, 1000, 1999, 2000, 2001, 2002, 4001, 5000} {
		columns := map[string][]float64{"one": slices.Repeat([]float64{1}, n)}
		for range n {
			columns["normal"] = append(columns["normal"], rng.NormFloat64())
			columns["steps"] = append(columns["steps"], math.Floor(4*rng.ExpFloat64())/10)
		}
		names := []string{"normal", "one", "steps"}
		got := drift.NewRanges(names, func(name string) []float64 { return slices.Clone(columns[name]) })
		for i, name := range names {
			want := drift.Range{Name: name, Low: quantile(columns[name], 1), High: quantile(columns[name], parts-1)}
			if g := got[i]; g.Name != name || !(math.Abs(g.Low-want.Low) <= 1e-9) || !(math.Abs(g.High-want.High) <= 1e-9) {
				t.Errorf("%d rows: got %v, want %v", n, g, want)
			}
		}
	}
	for name, values := range map[string][]float64{"no values": nil, "too wide": {-math.MaxFloat64, math.MaxFloat64}} {
		if got := drift.NewRanges([]string{"x"}, func(string) []float64 { return values }); got != nil {
			t.Errorf("%s: got %v, want nil", name, got)
		}
	}
}

func TestProfileRefuses(t *testing.T) {
	columns, days := rows(1, 3, 20)
	good := profile(t, columns, days)
	good.Ranges = []drift.Range{{Name: "wander", Low: -3, High: 3}}
	raw, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		old, new string
		mention  string
	}{
		{"format", "drift_profile/v2", "drift_profile/v3", "format"},
		{"step", `"step":1e-9`, `"step":-1e-9`, "step -1e-09"},
		{"weights", `"role":"feature","step"`, `"role":"feature","weight":0.5,"step"`, "add up to 0.5"},
		{"rows", `"rows":60`, `"rows":61`, "60 rows in the bins"},
		{"a day is lost", `"days":[19000,`, `"days":[`, "days of counts"},
		{"days do not ascend", `"days":[19000,19001,`, `"days":[19001,19000,`, "ascending"},
		{"no name", `"name":"wander"`, `"name":""`, "name"},
		{"a name twice", `"name":"wander"`, `"name":"steps"`, "taken"},
		{"edges do not ascend", `"edges":[1]`, `"edges":[1,1]`, "ascending"},
		{"shares", `"shares":[0,0,1,`, `"shares":[0,0.1,0.9,`, "shares"},
		{"bins are lost", `"values":[1]`, `"values":[]`, "counts of a day"},
		{"negative count", `[0,0,20,0,0]`, `[-1,1,20,0,0]`, "count -1"},
		{"no features", `"features":[`, `"features":[],"spare":[`, "0 features"},
		{"range", `"low":-3,"high":3`, `"low":3,"high":-3`, `range of feature "wander" from 3 to -3`},
		{"infinite range", `"high":3`, `"high":1e999`, "cannot unmarshal"},
		{"not a profile", `"rows":60`, `"rows":"60"`, "cannot unmarshal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !bytes.Contains(raw, []byte(tt.old)) {
				t.Fatalf("no %s in %s", tt.old, raw)
			}
			var p drift.Profile
			err := json.Unmarshal(bytes.Replace(raw, []byte(tt.old), []byte(tt.new), 1), &p)
			if err == nil || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want one that mentions %q", err, tt.mention)
			}
		})
	}
}

func TestNewProfileErrors(t *testing.T) {
	one := []float64{1, 2}
	tests := []struct {
		name    string
		columns []drift.Column
		days    []int
		mention string
	}{
		{"no columns", nil, []int{1, 2}, "0 columns"},
		{"no rows", []drift.Column{{Name: "x"}}, nil, "0 rows"},
		{"lengths", []drift.Column{{Name: "x", Values: one}}, []int{1}, "2 values for 1 rows"},
		{"name", []drift.Column{{Values: one}}, []int{1, 2}, "empty"},
		{"twice", []drift.Column{{Name: "x", Values: one}, {Name: "x", Values: one}}, []int{1, 2}, "taken"},
		{"domain", []drift.Column{{Name: "x", Domain: &drift.Domain{Low: 2, High: 1}, Values: one}}, []int{1, 2}, "domain from 2 to 1"},
		{"NaN domain", []drift.Column{{Name: "x", Domain: &drift.Domain{Low: nan, High: 1}, Values: one}}, []int{1, 2}, "domain from NaN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := drift.NewProfile(tt.columns, tt.days); err == nil || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want one that mentions %q", err, tt.mention)
			}
		})
	}
}
