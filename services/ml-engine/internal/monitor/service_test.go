package monitor_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// GetDrift equals, bit for bit, the drift computed from the same rows, by arrival and by event time.
func TestGetDrift(t *testing.T) {
	for name, event := range map[string]bool{"arrival": false, "event": true} {
		t.Run(name, func(t *testing.T) {
			a := enginetest.Artifact(t, "v1.8.1", "v1")
			synctest.Test(t, func(t *testing.T) {
				tr := open(t, a, "", event)
				defer tr.stop()
				rng := rand.New(rand.NewPCG(3, 0))
				counts := drift.NewCounts(a.Reference)
				at := time.Now().Add(-40 * time.Minute) // synctest begins at midnight: the first hour is of the previous day
				for i := range 6 * 24 {
					when := time.Time{}
					if event {
						when = at.Add(time.Duration(i) * time.Hour)
					}
					for _, v := range tr.observe(rng, 10, i%2 == 0, when) {
						counts.Observe(-(6*24-1-i)/24, v)
					}
					if !event && i < 6*24-1 {
						time.Sleep(time.Hour)
					}
				}
				want, err := a.Reference.Snapshot(counts, drift.NewNulls(a.Reference, 1000, 1), drift.DefaultLimits())
				if err != nil {
					t.Fatal(err)
				}
				got := tr.drift(&mlenginev1.GetDriftRequest{Bins: true, Reference: true, History: true})
				if got.GetRows() != 1440 || got.GetDays() != 6 || got.GetOverall().GetPsi() != want.Overall.PSI ||
					got.GetOverall().GetNullQ99() != want.Overall.Q99 || got.GetOverall().GetPValue() != *want.Overall.P ||
					got.GetOverall().GetVerdict() != mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS {
					t.Errorf("overall: got %v, want %+v", got, want.Overall)
				}
				for i, f := range got.GetFeatures() {
					w := want.Features[i]
					if f.GetFeature() != w.Feature || f.GetRole() != string(w.Role) || f.GetReading().GetPsi() != w.PSI ||
						int(f.GetRows()) != w.Samples || f.GetEffectiveRows() != w.Effective || len(f.GetBins()) != len(w.Bins) {
						t.Errorf("got %v, want %+v", f, w)
					}
					sum := uint64(0)
					for _, b := range f.GetBins() {
						sum += b.GetCount()
					}
					if sum != f.GetRows() {
						t.Errorf("%s: %d rows in the bins of %d", f.GetFeature(), sum, f.GetRows())
					}
				}
				history := got.GetHistory()
				if last := history[len(history)-1]; len(history) != 6 || last.GetOverall() != want.Overall.PSI || last.GetRows() != 1440 || history[0].GetRows() != 240 {
					t.Errorf("history: got %v", history)
				}
				end := time.Now()
				if event {
					end = at.Add((6*24 - 1) * time.Hour)
				}
				if want := end.Truncate(time.Hour).Add(time.Hour); !got.GetWindowEndTime().AsTime().Equal(want) || !got.GetWindowStartTime().AsTime().Equal(want.Add(-7*24*time.Hour)) {
					t.Errorf("window: got %v to %v, want the end %v", got.GetWindowStartTime().AsTime(), got.GetWindowEndTime().AsTime(), want)
				}
				var reference drift.Profile
				if err := reference.UnmarshalJSON(got.GetReference()); err != nil || reference.Rows != a.Reference.Rows {
					t.Errorf("reference: %v", err)
				}
				if sum := sha256.Sum256(got.GetReference()); hex.EncodeToString(sum[:]) != got.GetReferenceDigest() {
					t.Errorf("the reference has the digest %x, and is said to have %s", sum, got.GetReferenceDigest())
				}
				if day := tr.drift(window(24 * time.Hour)); day.GetRows() != 240 || day.GetDays() != 1 ||
					day.GetOverall().GetVerdict() != mlenginev1.DriftVerdict_DRIFT_VERDICT_INCONCLUSIVE || !strings.Contains(day.GetOverall().GetReason(), "240 rows") {
					t.Errorf("a day: got %v", day)
				}
			})
		})
	}
}

// countsOf returns the counts in an answer with bins.
func countsOf(t *testing.T, p *drift.Profile, resp *mlenginev1.GetDriftResponse) *drift.Counts {
	t.Helper()
	end := resp.GetWindowEndTime().GetSeconds()/3600 - 1
	features := resp.GetFeatures()
	bins := make([][]uint64, len(features))
	for i, f := range features {
		for _, b := range f.GetBins() {
			bins[i] = append(bins[i], b.GetCount())
		}
	}
	c, err := drift.CountsOf(p, bins, drift.DaysBefore(end, features[0].GetHours()), drift.DaysBefore(end, features[len(features)-1].GetHours()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The merged counts of two replicas with half the traffic each equal the counts of one replica with all of it.
func TestReplicasMerge(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	synctest.Test(t, func(t *testing.T) {
		one, two, all := open(t, a, "", false), open(t, a, "", false), open(t, a, "", false)
		for i := range 6 * 24 {
			half := []*trial{one, two}[i/5%2]
			half.observe(rand.New(rand.NewPCG(uint64(i), 0)), 10, i%3 == 0, time.Time{})
			all.observe(rand.New(rand.NewPCG(uint64(i), 0)), 10, i%3 == 0, time.Time{})
			time.Sleep(time.Hour)
		}
		merged := drift.NewCounts(a.Reference)
		for _, tr := range []*trial{one, two} {
			c := countsOf(t, a.Reference, tr.drift(&mlenginev1.GetDriftRequest{Bins: true}))
			if err := merged.Merge(c); err != nil {
				t.Fatal(err)
			}
		}
		overall, _ := a.Reference.PSI(merged)
		want := all.drift(&mlenginev1.GetDriftRequest{})
		if overall != want.GetOverall().GetPsi() || len(merged.Days()) != int(want.GetDays()) || merged.Rows() != want.GetRows() {
			t.Errorf("merged: got %v of %d rows on %d days, want %v", overall, merged.Rows(), len(merged.Days()), want)
		}
		one.stop()
		two.stop()
		all.stop()
	})
}

func TestGetDriftRefuses(t *testing.T) {
	tr := open(t, enginetest.Artifact(t, "v1.8.1", "v1"), "", false)
	defer tr.stop()
	service := monitor.NewService(tr.Monitor)
	for _, d := range []time.Duration{0, -time.Hour, 90 * time.Minute, 673 * time.Hour} {
		_, err := service.GetDrift(t.Context(), window(d))
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "1 to 672") {
			t.Errorf("window %v: got %v", d, err)
		}
	}
	resp := tr.drift(&mlenginev1.GetDriftRequest{})
	if resp.GetRows() != 0 || resp.GetOverall() != nil || len(resp.GetFeatures()) != 11 || resp.GetFeatures()[0].GetReading() != nil {
		t.Errorf("without rows: got %v", resp)
	}
	bare := enginetest.Artifact(t, "v1.8.1", "v2")
	bare.Reference = nil
	w, err := tr.Monitor.Watch(bare)
	if w != nil || err != nil {
		t.Errorf("no reference: got %v, %v", w, err)
	}
	tr.Activate(w)
	w.Observe(time.Now(), monitor.Rows{X: []float64{1}, Scores: []float64{1}}) // counts nothing and does not panic
	if _, err := service.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("no reference: got %v", err)
	}
	other := enginetest.Artifact(t, "v1.8.1", "v3")
	other.Reference = enginetest.Artifact(t, "v1.8", "v3").Reference
	if _, err := tr.Monitor.Watch(other); err == nil || !strings.Contains(err.Error(), "schema v1.8.1") {
		t.Errorf("reference of another schema: got %v", err)
	}
}
