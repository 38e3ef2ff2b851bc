package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

const (
	// treeDepth is the depth of the generated trees: 63 splits and 64 leaves. treeFeatures is the number of their inputs.
	treeDepth, treeFeatures = 6, 7
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

// trees measures the time of a score of a model with n trees.
func (s *scaling) trees(_ context.Context, count, _ int) ([]float64, error) {
	rng := rand.New(rand.NewPCG(2, uint64(count)))
	_, e, err := ensemble(rng, count)
	if err != nil {
		return nil, err
	}
	return []float64{s.timeOf(e.Score, vectors(rng, treeFeatures)) / float64(count)}, nil
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
	if !(sum >= 0) { // use the scores, so that they are computed
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

// decimal formats a number so that XGBoost reads it as a float: it reads digits without a point or an exponent as an integer.
type decimal float64

func (d decimal) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(d), 'e', -1, 32), nil
}

// ensemble generates n trees, and loads them.
func ensemble(rng *rand.Rand, count int) (raw []byte, e *trees.Ensemble, err error) {
	if raw, err = madeUp(rng, count, treeFeatures); err != nil {
		return nil, nil, err
	}
	e, err = trees.Import("made up", bytes.NewReader(raw))
	return raw, e, err
}

// madeUp generates full trees in XGBoost's format: node i has the children 2i+1 and 2i+2.
func madeUp(rng *rand.Rand, count, features int) ([]byte, error) {
	const splits, nodes = 1<<treeDepth - 1, 1<<(treeDepth+1) - 1
	type object = map[string]any
	zeros, made := make([]decimal, nodes), make([]object, count)
	for t := range made {
		var left, right, parents, inputs, defaults [nodes]int
		var conditions [nodes]decimal
		for i := range nodes {
			left[i], right[i], parents[i] = -1, -1, max(0, i-1)/2
			inputs[i], defaults[i] = rng.IntN(features), rng.IntN(2)
			conditions[i] = decimal(rng.NormFloat64() / 100) // the value of a leaf
			if i < splits {
				left[i], right[i], conditions[i] = 2*i+1, 2*i+2, decimal(rng.NormFloat64())
			}
		}
		made[t] = object{
			"id": t, "left_children": left, "right_children": right, "parents": parents,
			"split_indices": inputs, "split_conditions": conditions, "default_left": defaults, "split_type": make([]int, nodes),
			"base_weights": zeros, "loss_changes": zeros, "sum_hessian": zeros,
			"categories": []int{}, "categories_nodes": []int{}, "categories_segments": []int{}, "categories_sizes": []int{},
			"tree_param": object{"num_deleted": "0", "num_feature": strconv.Itoa(features), "num_nodes": strconv.Itoa(nodes), "size_leaf_vector": "0"},
		}
	}
	return json.Marshal(object{"version": []int{1, 7, 4}, "learner": object{
		"attributes": object{}, "feature_names": []string{}, "feature_types": []string{},
		"gradient_booster": object{"name": "gbtree", "model": object{
			"gbtree_model_param": object{"num_parallel_tree": "1", "num_trees": strconv.Itoa(count), "size_leaf_vector": "0"},
			"tree_info":          make([]int, count), "trees": made,
		}},
		"learner_model_param": object{"base_score": "5E-1", "boost_from_average": "1", "num_class": "0", "num_feature": strconv.Itoa(features), "num_target": "1"},
		"objective":           object{"name": "binary:logistic", "reg_loss_param": object{"scale_pos_weight": "1"}},
	}})
}
