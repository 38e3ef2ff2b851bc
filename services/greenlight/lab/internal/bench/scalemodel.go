package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

const (
	// treeDepth is the depth of the generated trees: 63 splits and 64 leaves.
	treeDepth = 6
	// scoredStates is the number of states that are scored in turn, so that different branches of the trees are used.
	scoredStates = 1024
)

// features measures the time of a score of a logistic model with n features. It runs in process, because the services only
// score by schemas, which are few and small.
func (s *scaling) features(_ context.Context, features, _ int) ([]float64, error) {
	rng := rand.New(rand.NewPCG(1, uint64(features)))
	m := &model.Logistic{Clip: 8}
	for i := range features {
		m.Features = append(m.Features, fmt.Sprintf("f%d", i))
		m.Mean, m.SD = append(m.Mean, rng.NormFloat64()), append(m.SD, 1+rng.Float64())
		m.Weight = append(m.Weight, rng.NormFloat64()/float64(features))
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return []float64{s.timeOf(m.Score, vectors(rng, features)) / float64(features)}, nil
}

// trees measures the time of a score of a model with n trees in LightGBM's format.
func (s *scaling) trees(_ context.Context, count, _ int) ([]float64, error) {
	const features = 7
	rng := rand.New(rand.NewPCG(2, uint64(count)))
	e, err := trees.Import("made up", strings.NewReader(lightGBM(rng, count, features)))
	if err != nil {
		return nil, err
	}
	return []float64{s.timeOf(e.Score, vectors(rng, features)) / float64(count)}, nil
}

// timeOf returns how long a score takes, in nanoseconds.
func (s *scaling) timeOf(score func([]float64) float64, xs [][]float64) float64 {
	var sum float64
	n := 0
	begin := time.Now()
	for time.Since(begin) < s.opts.Closed {
		for _, x := range xs {
			sum += score(x)
		}
		n += len(xs)
	}
	took := time.Since(begin)
	if !(sum >= 0) { // a use of the scores, so that they are computed
		return 0
	}
	return float64(took.Nanoseconds()) / float64(n)
}

func vectors(rng *rand.Rand, features int) [][]float64 {
	xs := make([][]float64, scoredStates)
	for i := range xs {
		for range features {
			xs[i] = append(xs[i], rng.NormFloat64())
		}
	}
	return xs
}

// lightGBM generates full trees in the text format of LightGBM. Node i has the children 2i+1 and 2i+2. A child beyond the last
// node is a leaf, whose number the format writes as its complement.
func lightGBM(rng *rand.Rand, count, features int) string {
	const splits = 1<<treeDepth - 1
	var b strings.Builder
	b.WriteString("tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n")
	fmt.Fprintf(&b, "max_feature_idx=%d\nobjective=binary sigmoid:1\nfeature_names=", features-1)
	for i := range features {
		fmt.Fprintf(&b, "f%d ", i)
	}
	b.WriteString("\n")
	child := func(i int) int {
		if i < splits {
			return i
		}
		return ^(i - splits)
	}
	for t := range count {
		fmt.Fprintf(&b, "\nTree=%d\nnum_leaves=%d\nnum_cat=0\n", t, splits+1)
		list(&b, "split_feature", splits, func(int) any { return rng.IntN(features) })
		list(&b, "threshold", splits, func(int) any { return rng.NormFloat64() })
		list(&b, "decision_type", splits, func(int) any { return 2 }) // missing values go left
		list(&b, "left_child", splits, func(i int) any { return child(2*i + 1) })
		list(&b, "right_child", splits, func(i int) any { return child(2*i + 2) })
		list(&b, "leaf_value", splits+1, func(int) any { return rng.NormFloat64() / 100 })
		b.WriteString("is_linear=0\nshrinkage=1\n\n")
	}
	b.WriteString("end of trees\n")
	return b.String()
}

func list(b *strings.Builder, name string, n int, value func(int) any) {
	b.WriteString(name + "=")
	for i := range n {
		fmt.Fprintf(b, "%v ", value(i))
	}
	b.WriteString("\n")
}
