package scoring_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// The label of a model is described as far as it is known.
func TestLabel(t *testing.T) {
	for _, tt := range []struct {
		label model.Label
		want  *mlenginev1.Label
	}{
		{model.Label{HorizonMinutes: 15, Threshold: 1.5}, &mlenginev1.Label{Kind: "range", Horizon: durationpb.New(15 * time.Minute), Threshold: 1.5}},
		{model.Label{HorizonMinutes: 0.1, Column: "filled"}, &mlenginev1.Label{Kind: "table", Horizon: durationpb.New(6 * time.Second), Column: "filled"}},
		{model.Label{HorizonMinutes: 60}, &mlenginev1.Label{Horizon: durationpb.New(time.Hour)}},
		{model.Label{}, nil},
	} {
		a := enginetest.ArtifactOf(t, enginetest.Own(t, "desk", 3), "own-1")
		a.Spec.Label = tt.label
		a.Reference.Ranges = nil
		e := start(t, a)
		info, err := e.client.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if got := info.GetLabel(); !proto.Equal(got, tt.want) {
			t.Errorf("%+v: got %v, want %v", tt.label, got, tt.want)
		}
		for _, f := range info.GetFeatures() {
			if f.ProfileLow != nil || f.ProfileHigh != nil {
				t.Errorf("the profile has no ranges, but %v has one", f)
			}
		}
	}
}

// A model with 1,000 custom features is served, described and watched; lists in errors stay short.
func TestWideSchema(t *testing.T) {
	own := enginetest.Own(t, "wide", 1000)
	own.Features[3].Domain = &[2]float64{-1, 1}
	a := enginetest.ArtifactOf(t, own, "own-1")
	e := start(t, a)
	rng := rand.New(rand.NewPCG(1, 2))
	const rows = 500
	var x []float64
	for range rows {
		x = append(x, enginetest.Vector(rng, own)...)
	}
	resp, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "wide", Values: x})
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range resp.GetScores() {
		if want := a.Scorer.Score(x[i*1000 : (i+1)*1000]); got != want {
			t.Fatalf("row %d: got %v, want %v", i, got, want)
		}
	}
	info, err := e.client.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f := info.GetFeatures()
	if len(f) != 1000 || f[3].GetDomainLow() != -1 || f[3].GetDomainHigh() != 1 || f[4].DomainLow != nil || f[999].ProfileLow == nil {
		t.Errorf("got %d features, %v, %v", len(f), f[3], f[4])
	}
	seen, err := e.drift.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if seen.GetRows() != rows || len(seen.GetFeatures()) < drift.MaxWatched || len(seen.GetFeatures()) > drift.MaxWatched+5 {
		t.Errorf("%d rows and %d features are watched", seen.GetRows(), len(seen.GetFeatures()))
	}
	_, err = e.client.Predict(t.Context(), &mlenginev1.PredictRequest{Features: map[string]float64{"own_1": 1}})
	if err == nil || !strings.Contains(err.Error(), "and ") || len(err.Error()) > 4096 {
		t.Errorf("got %v", err)
	}
}
