package model_test

import (
	"math"
	"os"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Importance is shared among the features by the weights of standardised inputs, or by splits.
func TestImportance(t *testing.T) {
	t.Parallel()
	schema, _ := feature.Lookup("v1.8.1")
	linear := &model.Logistic{Features: schema.Names(), Weight: make([]float64, schema.Len())}
	if got := model.Importance(linear, schema); got != nil {
		t.Errorf("no weight at all: got %v", got)
	}
	linear.Weight[schema.Index("bias")] = 5
	linear.Weight[schema.Index("rsi14_z")], linear.Weight[schema.Index("vol1m_log_rel")] = -3, 1
	got := model.Importance(linear, schema)
	if got["rsi14_z"] != 0.75 || got["vol1m_log_rel"] != 0.25 || len(got) != schema.Len()-1 {
		t.Errorf("linear: got %v, want 0.75 of rsi14_z and 0.25 of vol1m_log_rel", got)
	}
	for _, file := range []string{"lightgbm_market.txt", "xgboost_market.json"} {
		raw, err := os.ReadFile("../trees/testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		a := copyOf(t, "trees")
		if a.Spec, _, err = model.NewTrees(raw, schema, a.Spec.Label, false); err != nil {
			t.Fatal(err)
		}
		a.Ensemble = raw
		if err := a.Open(); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for name, share := range model.Importance(a.Scorer, schema) {
			sum += share
			if name == feature.Bias || share < 0 {
				t.Errorf("%s: %s has %v", file, name, share)
			}
		}
		if !(math.Abs(sum-1) < 1e-12) {
			t.Errorf("%s: the shares add up to %v", file, sum)
		}
	}
	if got := model.Importance(nil, schema); got != nil {
		t.Errorf("nothing: got %v", got)
	}
}
