package traffic

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// columns is a frame with a few rows.
type columns map[string][]float64

func (columns) End(i int) int64 { return int64(1_700_000_000_000 + 60_000*i) }

func (c columns) Column(name string) []float64 { return c[name] }

func (c columns) Row(i int, s *feature.Schema, dst []float64) bool {
	for k, name := range s.Names() {
		column, ok := c[name]
		switch {
		case name == feature.Bias:
			dst[k] = 1
		case !ok || math.IsNaN(column[i]):
			return false
		default:
			dst[k] = column[i]
		}
	}
	return true
}

// An executor that takes its callers' score gets one from a heuristic, a model, or a column, whose name is not a feature.
func TestSending(t *testing.T) {
	t.Parallel()
	const version = "v1.8.1-test"
	models := enginetest.Registry(t, "v1.8.1", version)
	a := enginetest.Artifact(t, "v1.8.1", version)
	frame := columns{"baseline_score": {0.25, math.NaN(), 0.75}}
	for i, name := range a.Schema.Names() {
		frame[name] = []float64{float64(i) / 10, 0.5, -float64(i) / 10}
	}
	digest, err := model.CallerDigest("desk@7")
	if err != nil {
		t.Fatal(err)
	}
	named := evidence.Model{Version: "desk@7", Digest: digest}
	if other := (evidence.Model{Version: "desk@8", Digest: digest}); !Sends(named) || Sends(other) || Sends(evidence.Model{Version: "heuristic-v1", Digest: digest}) {
		t.Error("a caller's score is known by its version and digest")
	}
	heuristic := func(i int) float64 {
		var x []float64
		for _, name := range a.Baseline.Inputs() {
			x = append(x, frame[name][i])
		}
		return a.Baseline.Score(x)
	}
	for from, want := range map[string][]float64{
		"heuristic=" + filepath.Join(models, "test", version, model.BaselineFile): {heuristic(0), heuristic(1), heuristic(2)},
		"model=" + version:      nil, // the model's own scores
		"column=baseline_score": {0.25, 0.75},
	} {
		b, err := Sending(model.OpenRegistry(models), named, from)
		if err != nil || b.Model != named || !b.Sent {
			t.Fatalf("%s: got %+v, %v", from, b, err)
		}
		states, err := StatesFor(frame, "S", []int{0, 1, 2}, a, b, evidence.Replay)
		if err != nil || want != nil && len(states) != len(want) || want == nil && len(states) != 3 {
			t.Fatalf("%s: got %d states, %v", from, len(states), err)
		}
		for i, s := range states {
			score := s.Score
			if want != nil {
				score = want[i]
			}
			req := s.Request()
			if req.BaselineScore == nil || math.Float64bits(req.GetBaselineScore()) != math.Float64bits(score) || !same(s.Baseline, score) || s.Unchecked || s.Decides != named {
				t.Errorf("%s: got %v in %+v, want %v", from, req.GetBaselineScore(), s, score)
			}
			if _, ok := req.GetFeatures()["baseline_score"]; ok || len(req.GetFeatures()) != a.Schema.Len() {
				t.Errorf("%s: sends %v, want the model's features alone", from, req.GetFeatures())
			}
		}
	}
	for _, from := range []string{"", "heuristic", "heuristic=", "formula=x", "caller=desk@7"} {
		if _, err := Sending(model.OpenRegistry(models), named, from); err == nil || !strings.Contains(err.Error(), "want heuristic=<file>, model=<registry entry> or column=<name> of --table") {
			t.Errorf("%q: got %v", from, err)
		}
	}
	for _, from := range []string{"heuristic=no/such.json", "model=v9"} {
		if _, err := Sending(model.OpenRegistry(models), named, from); err == nil {
			t.Errorf("%q: got no error", from)
		}
	}
	plain, err := StatesFor(frame, "S", []int{0}, a, Heuristic(a), evidence.Replay)
	if err != nil || len(plain) != 1 || plain[0].Request().BaselineScore != nil {
		t.Errorf("an executor with a heuristic: got %+v, %v, want no score in the request", plain, err)
	}
}
