package scoring_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// Only the active and the previous version have series, however many models come and go.
func TestSeriesOfReplacedModelsAreDeleted(t *testing.T) {
	reg := prometheus.NewRegistry()
	// versions returns the versions in labels, with their counted requests.
	versions := func() string {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "model_version" {
						found[l.GetValue()] += m.GetCounter().GetValue()
					}
				}
			}
		}
		var list []string
		for _, v := range slices.Sorted(maps.Keys(found)) {
			list = append(list, fmt.Sprintf("%s=%v", v, found[v]))
		}
		return strings.Join(list, " ")
	}
	loaded := func(version string) scoring.Loaded {
		return scoring.Loaded{Artifact: enginetest.Artifact(t, "v1.8.1", version)}
	}
	s := scoring.New(loaded("a"), scoring.NewMetrics(reg))
	for _, step := range []struct{ activate, want string }{
		{"a", "a=1"}, // again
		{"b", "a=1 b=1"},
		{"a", "a=2 b=1"}, // a rollback continues the counts
		{"b", "a=2 b=2"},
		{"c", "b=2 c=1"},
		{"d", "c=1 d=1"},
		{"a", "a=1 d=1"},
	} {
		s.Activate(loaded(step.activate))
		if _, err := s.Predict(t.Context(), &mlenginev1.PredictRequest{
			Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}},
		}); err != nil {
			t.Fatal(err)
		}
		if got := versions(); got != step.want {
			t.Errorf("after the activation of %s: got %s, want %s", step.activate, got, step.want)
		}
	}
}
