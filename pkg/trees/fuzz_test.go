package trees

import (
	"math"
	"os"
	"strings"
	"testing"
)

// fuzz checks that reading either fails or gives a model that scores every vector with a probability.
func fuzz(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Import("m", strings.NewReader(text))
		if err != nil {
			if e != nil {
				t.Fatalf("both a model and an error: %v", err)
			}
			return
		}
		if !(math.Abs(float64(e.base)) <= maxLeaf) {
			t.Fatalf("base margin %v: want a number within %v", e.base, float64(maxLeaf))
		}
		for _, v := range []float64{math.NaN(), 0, -1, 1e9, math.Inf(1), math.Inf(-1)} {
			x := make([]float64, len(e.FeatureNames()))
			for i := range x {
				x[i] = v
			}
			if s := e.Score(x); !(s >= 0 && s <= 1) {
				t.Fatalf("score %v at %v", s, v)
			}
		}
	})
}

const smallLightGBM = `tree
version=v4
num_class=1
num_tree_per_iteration=1
max_feature_idx=1
objective=binary sigmoid:1
feature_names=a b
tree_sizes=1 1

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0 0.5
decision_type=1 10
left_child=1 -1
right_child=-3 -2
leaf_value=0.1 -0.2 0.3
cat_boundaries=0 1
cat_threshold=5
is_linear=0
shrinkage=1

Tree=1
num_leaves=1
num_cat=0
leaf_value=0.25

end of trees
`

const smallXGBoost = `{"learner":{"feature_names":["a","b"],"gradient_booster":{"gbtree":{"model":{"gbtree_model_param":{"num_trees":"1"},` +
	`"tree_info":[0],"trees":[{"categories":[1,3],"categories_nodes":[0],"categories_segments":[0],"categories_sizes":[2],` +
	`"default_left":[0,1,0,0,0],"left_children":[1,3,-1,-1,-1],"right_children":[2,4,-1,-1,-1],"split_conditions":[NaN,0.5,1,2E-1,-3],` +
	`"split_indices":[0,1,0,0,0],"split_type":[1,0,0,0,0],"tree_param":{"num_deleted":"0","num_nodes":"5"}}]}},"name":"dart",` +
	`"weight_drop":[0.5]},"learner_model_param":{"base_score":"[2.5E-1]","num_class":"0","num_feature":"2"},` +
	`"objective":{"name":"binary:logistic"}}}`

func FuzzReadLightGBM(f *testing.F) {
	f.Add(smallLightGBM)
	fuzz(f)
}

func FuzzReadXGBoost(f *testing.F) {
	f.Add(smallXGBoost)
	raw, err := os.ReadFile("testdata/xgboost_own.ubj")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	fuzz(f)
}

// The small models are valid: a fuzzer that starts from refused input finds little.
func TestSmallModels(t *testing.T) {
	for _, text := range []string{smallLightGBM, smallXGBoost} {
		if _, err := Import("small", strings.NewReader(text)); err != nil {
			t.Error(err)
		}
	}
}
