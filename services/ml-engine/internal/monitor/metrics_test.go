package monitor_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

func TestMetrics(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		tr := open(t, a, "", false)
		defer tr.stop()
		tr.RegisterMetrics(reg)
		before := scrape(t, reg)
		if !math.IsNaN(before["ml_psi_score overall"]) || before["ml_psi_samples overall"] != 0 {
			t.Errorf("without rows: got %v of %v", before["ml_psi_score overall"], before["ml_psi_samples overall"])
		}
		rng := rand.New(rand.NewPCG(3, 0))
		for range 6 {
			tr.observe(rng, 100, true, time.Time{})
			time.Sleep(24 * time.Hour)
		}
		got := scrape(t, reg) // before any call: everything is prepared without one
		want := tr.drift(&mlenginev1.GetDriftRequest{Bins: true})
		check := func(name string, want float64) {
			t.Helper()
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s: got %v, want %v", name, v, want)
			}
		}
		check("ml_psi_score overall", want.GetOverall().GetPsi())
		check("ml_psi_score_28d overall", want.GetOverall().GetPsi()) // the same rows
		check("ml_psi_null_q99 overall", want.GetOverall().GetNullQ99())
		check("ml_psi_days overall", 6)
		check("ml_psi_reference_days", float64(want.GetReferenceDays()))
		for _, f := range want.GetFeatures() {
			check("ml_psi_score "+f.GetFeature(), f.GetReading().GetPsi())
			check("ml_psi_samples "+f.GetFeature(), 600)
			check("ml_feature_role "+f.GetFeature()+" "+f.GetRole(), 1)
			for _, b := range f.GetBins() {
				bin := f.GetFeature() + " " + b.GetBin() + "@" + a.Manifest.Files[model.ReferenceFile][:8]
				for series, v := range got { // labels are sorted by name: bin, feature
					if parts := strings.Fields(series); len(parts) == 3 && parts[2]+" "+parts[1] == bin {
						if w := map[string]float64{"ml_feature_bin_total": float64(b.GetCount()), "ml_feature_reference_ratio": b.GetReference()}[parts[0]]; v != w {
							t.Errorf("%s: got %v, want %v", series, v, w)
						}
					}
				}
			}
		}
		if n := len(got); n > 400 || len(before) != n {
			t.Errorf("%d series at the start, %d now: want the same, and few", len(before), n)
		}
	})
}

// scrape returns every series by name and label values.
func scrape(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

// BenchmarkScrape measures a page with 28 days of rows. Two models alternate, so that nothing is cached.
func BenchmarkScrape(b *testing.B) {
	tr := open(b, enginetest.Artifact(b, "v1.8.1", "v1"), "", true)
	other, err := tr.Watch(enginetest.Artifact(b, "v1.8.1", "v2"))
	if err != nil {
		b.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	tr.RegisterMetrics(reg)
	rng := rand.New(rand.NewPCG(1, 0))
	watches := []*monitor.Watch{tr.watch, other}
	for hour := range drift.RingHours {
		for _, w := range watches {
			w.Observe(time.Now(), monitor.Rows{
				X: enginetest.Vector(rng, tr.model.Schema), Scores: []float64{rng.Float64()},
				Inputs: []string{"mid"}, Values: []float64{100 + rng.NormFloat64()},
				EventMS: []int64{int64(400_000+hour) * time.Hour.Milliseconds()},
			})
		}
	}
	tr.stop() // also stops the computation of nulls
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tr.Activate(watches[i%2])
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
