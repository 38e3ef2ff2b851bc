package trees

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// scorer is the interface that the project uses: model.Scorer.
type scorer interface {
	Score(x []float64) float64
}

var _ scorer = (*Ensemble)(nil)

// grown returns an artificial ensemble of full binary trees, the most expensive shape for its number of nodes.
func grown(t testing.TB, f Format, trees, depth, features int) *Ensemble {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(trees), uint64(depth)))
	b := newBuilder(f)
	for i := range features {
		b.e.names = append(b.e.names, fmt.Sprintf("f%d", i))
	}
	for range trees {
		d := &draft{}
		splits := 1<<depth - 1
		for i := range 2*splits + 1 {
			br := branch{label: i, left: 2*i + 1, right: 2*i + 2, feature: r.IntN(features), value: r.NormFloat64(), missingRight: r.IntN(2) == 0}
			if i >= splits {
				br = branch{label: i, kind: kindLeaf, value: float64(float32(r.NormFloat64() / 100))}
			}
			d.branches = append(d.branches, br)
		}
		if err := b.add(d); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.ensemble()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func gaussian(n, features int) [][]float64 {
	r := rand.New(rand.NewPCG(8, 9))
	out := make([][]float64, n)
	for i := range out {
		for range features {
			out[i] = append(out[i], r.NormFloat64())
		}
	}
	return out
}

func TestScoreIsAProbability(t *testing.T) {
	for _, f := range []Format{LightGBM, XGBoost} {
		e := grown(t, f, 1, 1, 1)
		for _, leaf := range []float64{-maxLeaf, -1e5, -800, -90, -1, 0, 1, 90, 800, 1e5, maxLeaf} {
			bits := int64(math.Float64bits(leaf))
			e.nodes[1].key, e.nodes[2].key = bits, bits
			if s := e.Score([]float64{math.NaN()}); !(s >= 0 && s <= 1) || (leaf > 0) != (s > 0.5) {
				t.Errorf("%s: a margin of %v scores %v", f, leaf, s)
			}
		}
	}
}

func TestScoreDoesNotAllocate(t *testing.T) {
	for _, path := range models(t) {
		e := readModel(t, path)
		x := make([]float64, len(e.names))
		if n := testing.AllocsPerRun(100, func() { e.Score(x) }); n != 0 {
			t.Errorf("%s: %v allocations per score", path, n)
		}
	}
}

func TestScoreConcurrently(t *testing.T) {
	e := readModel(t, "testdata/xgboost_category.json")
	v := readVectors(t, "testdata/xgboost_category.csv")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, x := range v.x {
				if got := e.Margin(x); got != v.raw[i] {
					t.Errorf("row %d: margin %v, want %v", i, got, v.raw[i])
				}
			}
		})
	}
	wg.Wait()
}

func TestScoreOfAShortVectorPanics(t *testing.T) {
	e := readModel(t, "testdata/lightgbm_leaf.txt")
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	e.Score(make([]float64, 4, 5))
}

func TestFeatureNamesAreACopy(t *testing.T) {
	e := readModel(t, "testdata/lightgbm_leaf.txt")
	e.FeatureNames()[0] = "changed"
	if got := e.FeatureNames()[0]; got != "a" {
		t.Errorf("first feature is %q", got)
	}
}

// Tree shapes that a limit rejects.
func TestBounds(t *testing.T) {
	b := newBuilder(LightGBM)
	b.e.names = []string{"a"}
	chain := &draft{}
	for i := range maxDepth + 1 {
		chain.branches = append(chain.branches, branch{label: 2 * i, left: 2*i + 1, right: 2*i + 2}, branch{label: 2*i + 1, kind: kindLeaf})
	}
	chain.branches = append(chain.branches, branch{kind: kindLeaf})
	if err := b.add(chain); err == nil || !strings.Contains(err.Error(), "deeper than 1024 splits") {
		t.Errorf("a chain: %v", err)
	}
	if err := b.add(&draft{}); err == nil || !strings.Contains(err.Error(), "no nodes") {
		t.Errorf("an empty tree: %v", err)
	}
	if err := b.add(&draft{branches: make([]branch, maxNodes+1)}); err == nil || !strings.Contains(err.Error(), "nodes in all") {
		t.Errorf("a large tree: %v", err)
	}
	stump := &draft{branches: []branch{{kind: kindLeaf}}}
	b = newBuilder(LightGBM)
	var err error
	for i := 0; err == nil && i <= maxTrees; i++ {
		err = b.add(stump)
	}
	if err == nil || !strings.Contains(err.Error(), "more than 65536 trees") {
		t.Errorf("many trees: %v", err)
	}
	if _, err := readAll(strings.NewReader(strings.Repeat(" ", MaxFile+1))); err == nil {
		t.Error("a file that is too large was read")
	}
}

func BenchmarkScores(b *testing.B) {
	const features = 7
	xs := slices.Concat(gaussian(1024, features)...)
	scores := make([]float64, 1024)
	for _, f := range []Format{LightGBM, XGBoost} {
		for _, trees := range []int{10, 300, 1000} {
			e := grown(b, f, trees, 6, features)
			for _, rows := range []int{1, 64, 1024} {
				b.Run(fmt.Sprintf("%s/trees=%d/rows=%d", f, trees, rows), func(b *testing.B) {
					b.ReportAllocs()
					i := 0
					for b.Loop() {
						if rows == 1 {
							scores[i] = e.Score(xs[i*features : (i+1)*features])
						} else {
							e.Scores(scores[i:i+rows], xs[i*features:])
						}
						i = (i + rows) % 1024
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*trees), "ns/row/tree")
				})
			}
		}
	}
}

func BenchmarkImport(b *testing.B) {
	for _, path := range []string{"testdata/lightgbm_market.txt", "testdata/xgboost_market.json"} {
		text := readText(b, path)
		b.Run(filepath.Base(path), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := Import(path, strings.NewReader(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
