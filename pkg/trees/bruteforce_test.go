package trees

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A second evaluator, written from the libraries' documented rules and sharing no code with the package. It recurses
// over the file's own text, rounds to float32 where XGBoost does, and moves no thresholds.

type bruteTree func(x []float64) float64

func ints(s string) (out []int) {
	for _, w := range strings.Fields(s) {
		n, _ := strconv.Atoi(w)
		out = append(out, n)
	}
	return out
}

func numbers(s string) (out []float64) {
	for _, w := range strings.Fields(s) {
		n, _ := strconv.ParseFloat(w, 64)
		out = append(out, n)
	}
	return out
}

func bruteLightGBM(text string) (out []bruteTree) {
	blocks := strings.Split(strings.Split(text, "end of trees")[0], "\nTree=")
	for _, block := range blocks[1:] {
		key := map[string]string{}
		for _, line := range strings.Split(block, "\n") {
			k, v, _ := strings.Cut(line, "=")
			key[k] = v
		}
		left, right, feature, decision := ints(key["left_child"]), ints(key["right_child"]), ints(key["split_feature"]), ints(key["decision_type"])
		threshold, leaf := numbers(key["threshold"]), numbers(key["leaf_value"])
		bounds, words := ints(key["cat_boundaries"]), ints(key["cat_threshold"])
		var walk func(node int, x []float64) float64
		walk = func(node int, x []float64) float64 {
			if node < 0 {
				return leaf[-node-1]
			}
			v, d := x[feature[node]], decision[node]
			if math.Abs(v) <= float64(float32(1e-35)) {
				v = 0
			}
			var goLeft bool
			switch missing := d / 4; {
			case d%2 == 1:
				if v > -1 && v < 1e6 { // false for NaN
					cat, set := int(v), int(threshold[node])
					at := bounds[set] + cat/32
					goLeft = at < bounds[set+1] && words[at]&(1<<(cat%32)) != 0
				}
			case missing == 2 && math.IsNaN(v), missing == 1 && (v == 0 || math.IsNaN(v)):
				goLeft = d&2 == 2
			default:
				if math.IsNaN(v) {
					v = 0
				}
				goLeft = v <= threshold[node]
			}
			if goLeft {
				return walk(left[node], x)
			}
			return walk(right[node], x)
		}
		if len(leaf) == 1 {
			out = append(out, func([]float64) float64 { return leaf[0] })
			continue
		}
		out = append(out, func(x []float64) float64 { return walk(0, x) })
	}
	return out
}

func bruteXGBoost(t *testing.T, text string) (out []bruteTree) {
	type object = map[string]any
	var file object
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "NaN", "0")), &file); err != nil {
		t.Fatal(err)
	}
	booster := file["learner"].(object)["gradient_booster"].(object)
	weights, _ := booster["weight_drop"].([]any)
	if weights != nil {
		booster = booster["gbtree"].(object)
	}
	for k, item := range booster["model"].(object)["trees"].([]any) {
		tree := item.(object)
		get := func(key string, i int) float64 { return tree[key].([]any)[i].(float64) }
		weight := float32(1)
		if weights != nil {
			weight = float32(weights[k].(float64))
		}
		var walk func(i int, x []float64) float64
		walk = func(i int, x []float64) float64 {
			if get("left_children", i) == -1 {
				return float64(float32(get("split_conditions", i)) * weight)
			}
			v := float32(x[int(get("split_indices", i))])
			var goLeft bool
			switch {
			case math.IsNaN(float64(v)):
				goLeft = get("default_left", i) == 1
			case get("split_type", i) == 1:
				goLeft = true
				for j, node := range tree["categories_nodes"].([]any) {
					if int(node.(float64)) != i {
						continue
					}
					from, size := int(get("categories_segments", j)), int(get("categories_sizes", j))
					for c := from; c < from+size; c++ {
						if v >= 0 && float64(int64(v)) == get("categories", c) {
							goLeft = false
						}
					}
				}
			default:
				goLeft = v < float32(get("split_conditions", i))
			}
			if goLeft {
				return walk(int(get("left_children", i)), x)
			}
			return walk(int(get("right_children", i)), x)
		}
		out = append(out, func(x []float64) float64 { return walk(0, x) })
	}
	return out
}

func TestBruteForce(t *testing.T) {
	special := []float64{math.NaN(), 0, math.Copysign(0, -1), 1e-35, -1e-35, 2e-35, 5e-324, -0.5, 1, 2, 3, 38, 1e9, -1e9, 1e300}
	for _, path := range models(t) {
		if strings.HasSuffix(path, ".ubj") {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			e := readModel(t, path)
			var brute []bruteTree
			if e.Format() == LightGBM {
				brute = bruteLightGBM(string(raw))
			} else {
				brute = bruteXGBoost(t, string(raw))
			}
			if len(brute) != e.AllTrees() {
				t.Fatalf("%d trees, want %d", e.AllTrees(), len(brute))
			}
			thresholds := []float64{0}
			for _, n := range e.nodes {
				if n.at != 0 {
					thresholds = append(thresholds, valueOf(n.key))
				}
			}
			single := make([]*Ensemble, len(brute))
			for k := range single {
				one := *e
				one.roots, one.steps, one.used, one.base = e.roots[k:k+1], e.steps[k:k+1], 1, 0
				single[k] = &one
			}
			r := rand.New(rand.NewPCG(1, 2))
			x := make([]float64, len(e.names))
			for range 2000 {
				for i := range x {
					switch r.IntN(4) {
					case 0:
						x[i] = special[r.IntN(len(special))]
					case 1:
						x[i] = float64(r.IntN(64))
					case 2:
						// At a threshold or a neighbouring number.
						x[i] = math.Nextafter(thresholds[r.IntN(len(thresholds))], float64(r.IntN(3)-1)*math.MaxFloat64)
					default:
						x[i] = r.NormFloat64()
					}
				}
				for k, tree := range brute {
					if got, want := single[k].Margin(x), tree(x); got != want {
						t.Fatalf("tree %d at %v: %v, want %v", k, x, got, want)
					}
				}
			}
		})
	}
}

// valueOf is the inverse of keyOf.
func valueOf(key int64) float64 {
	if key < 0 {
		key ^= math.MaxInt64
	}
	return math.Float64frombits(uint64(key))
}

// A moved threshold decides like the rounded comparison, for thresholds of every size and the doubles around them.
func TestXGBoostThreshold(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	thresholds := []float32{
		0, float32(math.Copysign(0, -1)), 1, -1, math.MaxFloat32, -math.MaxFloat32,
		math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 0x1p-126, float32(math.Inf(1)),
	}
	for range 20000 {
		if f := math.Float32frombits(r.Uint32()); !math.IsNaN(float64(f)) && !math.IsInf(float64(f), -1) {
			thresholds = append(thresholds, f)
		}
	}
	for _, f := range thresholds {
		moved := xgboostThreshold(f)
		try := func(x float64) {
			if got, want := x <= moved, float32(x) < f; got != want {
				t.Fatalf("threshold %v (%x): x %v goes left %v, want %v", f, math.Float32bits(f), x, got, want)
			}
		}
		for _, x := range []float64{
			float64(f), moved, 0, 1e300, -1e300, math.Inf(1),
			float64(math.Nextafter32(f, 0)), float64(math.Nextafter32(f, math.MaxFloat32)), float64(math.Nextafter32(f, -math.MaxFloat32)),
		} {
			try(x)
			try(math.Nextafter(x, math.Inf(1)))
			try(math.Nextafter(x, math.Inf(-1)))
			try((x + moved) / 2)
		}
	}
}

// Rows that the library rounds to zero fall on the zero side of every threshold.
func TestLightGBMThreshold(t *testing.T) {
	tiny := []float64{0, 5e-324, 1e-40, 1e-36, lightGBMZero, math.Nextafter(lightGBMZero, 1), 1.1e-35, 1e-30, 1}
	for _, a := range tiny {
		for _, b := range tiny {
			for _, threshold := range []float64{a, -a} {
				for _, x := range []float64{b, -b} {
					rounded := x
					if math.Abs(x) <= lightGBMZero {
						rounded = 0
					}
					if got, want := x <= lightGBMThreshold(threshold), rounded <= threshold; got != want {
						t.Errorf("threshold %v: x %v goes left %v, want %v", threshold, x, got, want)
					}
				}
			}
		}
	}
}
