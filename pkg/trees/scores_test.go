package trees

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
)

// walk is the reference: the rules of a draft, branch by branch, on the numbers of the vector.
func walk(e *Ensemble, d *draft, i int, x []float64) float64 {
	b := &d.branches[i]
	if b.kind == kindLeaf {
		return b.value
	}
	v := x[b.feature]
	left := v <= b.value
	switch {
	case math.IsNaN(v) || b.kind == kindNumberZero && math.Abs(v) <= lightGBMZero:
		left = !b.missingRight
	case b.kind == kindSet:
		set := e.sets[int(b.value)]
		if e.format == XGBoost {
			v = float64(float32(v))
		}
		c := math.Trunc(v)
		left = v > -1 && !(e.format == XGBoost && v < 0) && c < 32*float64(set.length) &&
			e.words[set.start+uint32(c)/32]&(1<<(uint32(c)%32)) != 0
	}
	if left {
		return walk(e, d, b.left, x)
	}
	return walk(e, d, b.right, x)
}

// wild generates an ensemble of uneven trees with splits of the given kinds, of which scores use a part, and its
// reference margin.
func wild(t *testing.T, r *rand.Rand, f Format, trees, features int, kinds ...kind) (*Ensemble, func(x []float64) float64) {
	t.Helper()
	b := newBuilder(f)
	b.e.average = f == LightGBM && r.IntN(2) == 0
	b.e.base = float32(r.NormFloat64())
	if f == LightGBM {
		b.e.base = 0
	}
	for i := range features {
		b.e.names = append(b.e.names, fmt.Sprintf("f%d", i))
	}
	var drafts []*draft
	for range trees {
		d := &draft{branches: []branch{{kind: kindLeaf}}}
		leaves := []int{0}
		for range r.IntN(40) {
			k := r.IntN(len(leaves))
			if r.IntN(2) == 0 {
				k = len(leaves) - 1 // deep trees, as LightGBM grows them
			}
			at, n := leaves[k], len(d.branches)
			br := branch{kind: kinds[r.IntN(len(kinds))], feature: r.IntN(features), missingRight: r.IntN(2) == 0, left: n, right: n + 1}
			br.value = []float64{r.NormFloat64(), 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 1}[min(5, r.IntN(20))]
			if br.kind == kindSet {
				set, err := b.categories([]int{r.IntN(40), r.IntN(40), r.IntN(3)})
				if err != nil {
					t.Fatal(err)
				}
				br.value = float64(set)
			}
			d.branches[at] = br
			d.branches = append(d.branches, branch{kind: kindLeaf}, branch{kind: kindLeaf})
			leaves = append(slices.Delete(leaves, k, k+1), n, n+1)
		}
		for _, i := range leaves {
			d.branches[i].value = float64(float32(r.NormFloat64()))
		}
		if err := b.add(d); err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, d)
	}
	e, err := b.ensemble()
	if err != nil {
		t.Fatal(err)
	}
	if e, err = e.First(1 + r.IntN(trees)); err != nil {
		t.Fatal(err)
	}
	return e, func(x []float64) float64 {
		if f == XGBoost {
			sum := e.base
			for _, d := range drafts[:e.used] {
				sum += float32(walk(e, d, 0, x))
			}
			return float64(sum)
		}
		sum := 0.0
		for _, d := range drafts[:e.used] {
			sum += walk(e, d, 0, x)
		}
		if e.average {
			sum /= float64(e.used)
		}
		return sum
	}
}

var oddValues = []float64{math.NaN(), 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 1e-35, -1e-36, -0.5, 1, 2, 33, 39.5, 1e9, 1e300}

// odd generates rows with missing values, infinities, zeros of both signs, and categories.
func odd(r *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		if x[i] = r.NormFloat64(); r.IntN(2) == 0 {
			x[i] = oddValues[r.IntN(len(oddValues))]
		}
	}
	return x
}

// Rows score the same, bit for bit, alone and in blocks of every length, and match the reference.
func TestScoresOfBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for name, kinds := range map[string][]kind{
		"numbers": {kindNumber}, "zeros": {kindNumber, kindNumberZero}, "sets": {kindNumber, kindSet}, "all": {kindNumber, kindNumberZero, kindSet},
	} {
		for _, f := range []Format{LightGBM, XGBoost} {
			t.Run(fmt.Sprintf("%s/%s", f, name), func(t *testing.T) {
				for _, features := range []int{1, 7, 300} {
					for _, trees := range []int{2, 30} {
						e, want := wild(t, r, f, trees, features, kinds...)
						checkBlocks(t, r, e, want)
					}
				}
			})
		}
	}
	for _, path := range models(t) {
		t.Run(filepath.Base(path), func(t *testing.T) { checkBlocks(t, r, readModel(t, path), nil) })
	}
}

func checkBlocks(t *testing.T, r *rand.Rand, e *Ensemble, want func(x []float64) float64) {
	t.Helper()
	positions := r.Perm(len(e.names) + 2)[:len(e.names)]
	moved := e.Select(positions, len(e.names)+2)
	different := map[float64]bool{}
	for rows := range 71 {
		x := odd(r, rows*e.width)
		wide := odd(r, rows*moved.width)
		scores, again := make([]float64, rows), make([]float64, rows)
		e.Scores(scores, x)
		for i := range rows {
			row := x[i*e.width : (i+1)*e.width]
			if m := e.Margin(row); want != nil && math.Float64bits(m) != math.Float64bits(want(row)) {
				t.Fatalf("margin %v, want %v of %v", m, want(row), row)
			}
			if got := e.Score(row); math.Float64bits(scores[i]) != math.Float64bits(got) {
				t.Fatalf("row %d of %d: %v, alone %v", i, rows, scores[i], got)
			}
			different[scores[i]] = true
			for j, at := range positions {
				wide[i*moved.width+at] = row[j]
			}
		}
		moved.Scores(again, wide)
		if !slices.Equal(scores, again) {
			t.Fatalf("%d rows: %v, with inputs elsewhere in the vector %v", rows, scores, again)
		}
	}
	if len(different) < 2 && e.AllTrees() > 2 && len(e.nodes) > e.AllTrees() { // a few trees may not differ on these rows
		t.Errorf("every row scores %v: nothing was tested", different)
	}
}

func TestScoresOfTooFewValuesPanic(t *testing.T) {
	e := readModel(t, "testdata/lightgbm_leaf.txt")
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	e.Scores(make([]float64, 2), make([]float64, 2*e.width-1, 2*e.width))
}
