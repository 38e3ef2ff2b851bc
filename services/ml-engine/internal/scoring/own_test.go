package scoring_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// A model of 1,000 features of a desk's own is served, described and watched; what an error lists stays short.
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
	if len(f) != 1000 || f[3].GetDomainLow() != -1 || f[3].GetDomainHigh() != 1 || f[4].DomainLow != nil || info.GetHorizon().AsDuration() != own.Horizon {
		t.Errorf("got %d features, %v, %v, horizon %v", len(f), f[3], f[4], info.GetHorizon())
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
