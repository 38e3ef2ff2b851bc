package app_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// replay scores 600 states of 6 days, one by one, half of them with raw inputs. It returns their counts, computed by
// definition.
func replay(t *testing.T, r *servetest.Service, a *model.Artifact) *drift.Counts {
	t.Helper()
	const rows, days = 600, 6
	client, rng, counts := mlenginev1.NewScoringServiceClient(r.Conn), rand.New(rand.NewPCG(9, 0)), drift.NewCounts(a.Reference)
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		x := enginetest.Vector(rng, a.Schema)
		at := begin.Add(time.Duration(i) * days * 24 * time.Hour / rows)
		req := &mlenginev1.PredictRequest{
			EventTime: timestamppb.New(at), Vector: &mlenginev1.FeatureVector{Schema: a.Schema.Name, Values: x},
		}
		row := append(slices.Clone(x[1:]), a.Scorer.Score(x)) // without bias
		if i%2 == 0 {
			mid := 100 + rng.NormFloat64()
			req.Watched = map[string]float64{"mid": mid, "rsi14": 101}
			row = append(row, mid, math.NaN(), math.NaN(), 101)
		}
		if _, err := client.Predict(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		counts.Observe(int(at.Sub(begin)/(24*time.Hour)), row)
	}
	return counts
}

// The service's drift equals, bit for bit, the drift computed from the same rows. Its metrics agree, and so does the service
// after a restart.
func TestDrift(t *testing.T) {
	o := options(t)
	o.DriftClock, o.StateDir = "event", filepath.Join(t.TempDir(), "state")
	a, err := model.OpenRegistry(o.Models).Load(version)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, o)
	counts := replay(t, r, a)
	want, err := a.Reference.Snapshot(counts, drift.NewNulls(a.Reference, 1000, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	ask := &mlenginev1.GetDriftRequest{Bins: true, Reference: true, History: true}
	got, err := mlenginev1.NewDriftServiceClient(r.Conn).GetDrift(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	sameReading(t, "overall", got.GetOverall(), &want.Overall)
	sameReading(t, "overall, weighted", got.GetOverallWeighted(), want.Weighted)
	if got.GetRows() != 600 || got.GetDays() != 6 || len(got.GetFeatures()) != len(want.Features) || len(got.GetHistory()) != 6 {
		t.Fatalf("got %v", got)
	}
	for i, f := range got.GetFeatures() {
		w := &want.Features[i]
		sameReading(t, w.Feature, f.GetReading(), &w.Reading)
		if f.GetFeature() != w.Feature || f.GetRole() != string(w.Role) || int(f.GetRows()) != w.Samples || f.GetEffectiveRows() != w.Effective || f.GetWeight() != w.Weight {
			t.Errorf("%s: got %v, want %+v", w.Feature, f, w)
		}
		for b, bin := range f.GetBins() {
			if bin.GetCount() != counts.Bins(i)[b] || bin.GetPsi() != w.Bins[b].PSI || bin.GetReference() != w.Bins[b].Reference || bin.GetBin() != w.Bins[b].Bin {
				t.Errorf("%s: got %v, want %d of %+v", w.Feature, bin, counts.Bins(i)[b], w.Bins[b])
			}
		}
	}
	metricsAgree(t, r, got)

	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(o.AddressFile); err != nil {
		t.Fatal(err)
	}
	again, err := mlenginev1.NewDriftServiceClient(start(t, o).Conn).GetDrift(t.Context(), ask)
	if got.GetInstanceId() == again.GetInstanceId() {
		t.Error("another process has the same instance_id")
	}
	got.InstanceId = again.GetInstanceId()
	if err != nil || !proto.Equal(got, again) {
		t.Errorf("after a restart: got %v (%v), want %v", again, err, got)
	}
}

func sameReading(t *testing.T, name string, got *mlenginev1.DriftReading, want *drift.Reading) {
	t.Helper()
	if got.GetPsi() != want.PSI || got.GetNullExpected() != want.Expected || got.GetNullQ95() != want.Q95 || got.GetNullQ99() != want.Q99 ||
		got.GetPValue() != *want.P || got.GetThreshold() != want.Threshold || got.GetReason() != want.Reason || got.GetStatus() != string(want.Status) ||
		got.GetVerdict().String() != "DRIFT_VERDICT_"+string(want.Verdict) {
		t.Errorf("%s: got %v, want %+v", name, got, want)
	}
}

// metricsAgree compares every series of the metrics page with the answer.
func metricsAgree(t *testing.T, r *servetest.Service, d *mlenginev1.GetDriftResponse) {
	t.Helper()
	want := map[string]float64{
		"ml_psi_score overall": d.GetOverall().GetPsi(), "ml_psi_score_28d overall": d.GetOverall().GetPsi(), // the same rows
		"ml_psi_null_q99 overall": d.GetOverall().GetNullQ99(), "ml_psi_samples overall": float64(d.GetRows()),
		"ml_psi_days overall": float64(d.GetDays()), "ml_psi_reference_days": float64(d.GetReferenceDays()),
	}
	if w := d.GetOverallWeighted(); w != nil {
		want["ml_psi_score overall_weighted"], want["ml_psi_score_28d overall_weighted"] = w.GetPsi(), w.GetPsi()
		want["ml_psi_null_q99 overall_weighted"], want["ml_psi_samples overall_weighted"] = w.GetNullQ99(), float64(d.GetRows())
		want["ml_psi_days overall_weighted"] = float64(d.GetDays())
	}
	for _, f := range d.GetFeatures() {
		name := f.GetFeature()
		want["ml_psi_score "+name], want["ml_psi_score_28d "+name] = f.GetReading().GetPsi(), f.GetReading().GetPsi()
		want["ml_psi_null_q99 "+name], want["ml_psi_samples "+name] = f.GetReading().GetNullQ99(), float64(f.GetRows())
		want["ml_psi_days "+name] = float64(d.GetDays())
		want["ml_feature_role "+name+" "+f.GetRole()] = 1
		for _, b := range f.GetBins() {
			bin := fmt.Sprintf("%s@%.8s %s", b.GetBin(), d.GetReferenceDigest(), name)
			want["ml_feature_bin_total "+bin], want["ml_feature_reference_ratio "+bin] = float64(b.GetCount()), b.GetReference()
		}
	}
	_, page := r.Get("/metrics")
	families := telemetrytest.Parse(t, strings.NewReader(page))
	got := telemetrytest.Values(families, "ml_psi_")
	for name, v := range telemetrytest.Values(families, "ml_feature_") {
		got[name] = v
	}
	for name, w := range want {
		if v, ok := got[name]; !ok || v != w {
			t.Errorf("%s: got %v (there: %v), want %v", name, v, ok, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d series, want %d", len(got), len(want))
	}
}

// A model without a reference scores like any other. Its drift is an error, not 0.
func TestDriftWithoutReference(t *testing.T) {
	o := options(t)
	o.Models = registry(t, func(a *model.Artifact) { a.Reference = nil })
	r := start(t, o)
	if code, body := r.Post("/ml/predict", `{"vector":{"schema":"v1.8.1","values":[1,0,0,0,0,0,0]},"watched":{"mid":1}}`); code != 200 {
		t.Errorf("predict: got %d %s", code, body)
	}
	_, err := mlenginev1.NewDriftServiceClient(r.Conn).GetDrift(t.Context(), &mlenginev1.GetDriftRequest{})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "REFERENCE_MISSING") {
		t.Errorf("drift: got %v", err)
	}
	if _, page := r.Get("/metrics"); strings.Contains(page, "ml_psi_") || !strings.Contains(page, "ml_drift_state_write_errors_total 0") {
		t.Error("metrics of drift: want none but the errors of writing")
	}
	if !strings.Contains(r.Log(), "no reference profile") || !strings.Contains(r.Log(), "in memory only") {
		t.Errorf("log: got %s", r.Log())
	}
}

// Raw inputs over HTTP may have the older spelling too.
func TestDriftOverHTTP(t *testing.T) {
	r := start(t, options(t))
	for _, watched := range []string{`{"spreadBp":2}`, `{"spread_bp":2,"vol1m":3}`, `{}`} {
		if code, body := r.Post("/ml/predict", `{"vector":{"schema":"v1.8.1","values":[1,0,0,0,0,0,0]},"watched":`+watched+`}`); code != 200 {
			t.Errorf("%s: got %d %s", watched, code, body)
		}
	}
	got, err := mlenginev1.NewDriftServiceClient(r.Conn).GetDrift(t.Context(), &mlenginev1.GetDriftRequest{Bins: true})
	if err != nil || got.GetRows() != 3 {
		t.Fatalf("got %d rows, %v", got.GetRows(), err)
	}
	for _, f := range got.GetFeatures() {
		if f.GetFeature() != "spread_bp" {
			continue
		}
		missing := f.GetBins()[slices.IndexFunc(f.GetBins(), func(b *mlenginev1.DriftBin) bool { return b.GetBin() == drift.Missing })]
		if f.GetRows() != 2 || missing.GetCount() != 0 {
			t.Errorf("spread_bp: got %d rows, %d of them missing: want 2 and 0", f.GetRows(), missing.GetCount())
		}
	}
}
