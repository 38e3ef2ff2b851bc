package monitor_test

import (
	"bytes"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/model"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// trial is a monitor with one active model.
type trial struct {
	t *testing.T
	*monitor.Monitor

	model *model.Artifact
	watch *monitor.Watch
	log   *bytes.Buffer
}

func open(t *testing.T, a *model.Artifact, dir string, event bool) *trial {
	t.Helper()
	log := &bytes.Buffer{}
	m, err := monitor.Open(monitor.Options{Dir: dir, EventClock: event, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.Watch(a)
	if err != nil {
		t.Fatal(err)
	}
	m.Activate(w)
	return &trial{t: t, Monitor: m, model: a, watch: w, log: log}
}

// observe counts n random vectors, with raw inputs or not, and returns them as the profile has them.
func (tr *trial) observe(rng *rand.Rand, n int, inputs bool, event time.Time) [][]float64 {
	var vectors [][]float64
	for range n {
		x := enginetest.Vector(rng, tr.model.Schema)
		r := monitor.Rows{X: x, Scores: []float64{tr.model.Scorer.Score(x)}}
		if !event.IsZero() {
			r.EventMS = []int64{event.UnixMilli()}
		}
		v := append(slices.Clone(x[1:]), r.Scores[0])
		if inputs {
			r.Inputs, r.Values = []string{"other", "rsi14", "mid"}, []float64{7, 50, 100 + rng.NormFloat64()}
			v = append(v, r.Values[2], math.NaN(), math.NaN(), 50)
		}
		tr.watch.Observe(time.Now(), r)
		vectors = append(vectors, v)
	}
	return vectors
}

// shifted counts n vectors that have moved, without raw inputs.
func (tr *trial) shifted(rng *rand.Rand, n int) {
	for range n {
		x := enginetest.Vector(rng, tr.model.Schema)
		for i := 1; i < len(x); i++ {
			x[i] += 0.7
		}
		tr.watch.Observe(time.Now(), monitor.Rows{X: x, Scores: []float64{tr.model.Scorer.Score(x)}})
	}
}

func (tr *trial) drift(req *mlenginev1.GetDriftRequest) *mlenginev1.GetDriftResponse {
	tr.t.Helper()
	resp, err := monitor.NewService(tr.Monitor).GetDrift(tr.t.Context(), req)
	if err != nil {
		tr.t.Fatal(err)
	}
	return resp
}

func (tr *trial) stop() {
	tr.t.Helper()
	if err := tr.Stop(tr.t.Context()); err != nil {
		tr.t.Error(err)
	}
}

// What GetDrift answers is what the numerics make of the same vectors, to the last bit, by the clock and by event time.
func TestGetDrift(t *testing.T) {
	for name, event := range map[string]bool{"arrival": false, "event": true} {
		t.Run(name, func(t *testing.T) {
			a := enginetest.Artifact(t, "v1.8.1", "v1")
			synctest.Test(t, func(t *testing.T) {
				tr := open(t, a, "", event)
				defer tr.stop()
				rng := rand.New(rand.NewPCG(3, 0))
				counts := drift.NewCounts(a.Reference)
				at := time.Now().Add(-40 * time.Minute) // synctest begins at midnight: the first hour is of the day before
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
				if day := tr.drift(&mlenginev1.GetDriftRequest{Window: durationpb.New(24 * time.Hour)}); day.GetRows() != 240 || day.GetDays() != 1 ||
					day.GetOverall().GetVerdict() != mlenginev1.DriftVerdict_DRIFT_VERDICT_INCONCLUSIVE || !strings.Contains(day.GetOverall().GetReason(), "240 rows") {
					t.Errorf("a day: got %v", day)
				}
			})
		})
	}
}

// countsOf are the counts that an answer with bins holds.
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

// Two replicas that have seen the halves of the traffic make, merged, what one would have that had seen it all.
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

// A restart goes on from the counts, a crash loses at most a minute, and what cannot be used is set aside.
func TestRestart(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(4, 0))
		rows := func(tr *trial) uint64 { return tr.drift(&mlenginev1.GetDriftRequest{}).GetRows() }

		tr := open(t, a, dir, false)
		tr.observe(rng, 100, true, time.Time{})
		if _, err := monitor.Open(monitor.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "owns") {
			t.Errorf("the folder of another: got %v", err)
		}
		tr.stop()

		tr = open(t, a, dir, false)
		if got := rows(tr); got != 100 {
			t.Errorf("after a restart: got %d rows, want 100", got)
		}
		tr.observe(rng, 50, false, time.Time{})
		time.Sleep(61 * time.Second)
		tr.observe(rng, 7, false, time.Time{})
		copied := t.TempDir() // what a crash would leave
		name := only(t, dir)
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		tr.stop()

		tr = open(t, a, copied, false)
		if got := rows(tr); got != 150 {
			t.Errorf("after a crash: got %d rows, want the 150 of a minute ago", got)
		}
		tr.stop()

		raw[len(raw)/2] ^= 1
		if err := os.WriteFile(filepath.Join(copied, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		tr = open(t, a, copied, false)
		if got := rows(tr); got != 0 || !strings.Contains(tr.log.String(), "level=ERROR") || !strings.Contains(tr.log.String(), "set_aside_as") {
			t.Errorf("a corrupt file: got %d rows, log %s", got, tr.log)
		}
		if aside, err := filepath.Glob(filepath.Join(copied, "*.unusable-*")); err != nil || len(aside) != 1 {
			t.Errorf("set aside: got %v, %v", aside, err)
		}
		tr.stop()
	})
}

// only is the one file of the folder that is not hidden.
func only(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v, want one file", files, err)
	}
	return filepath.Base(files[0])
}

// A folder that cannot be written costs no vector, is told, and counted.
func TestUnwritable(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		tr := open(t, a, dir, false)
		tr.RegisterMetrics(reg)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		tr.observe(rand.New(rand.NewPCG(4, 0)), 5, true, time.Time{})
		time.Sleep(190 * time.Second)
		if got := scrape(t, reg)["ml_drift_state_write_errors_total"]; got < 2 || !strings.Contains(tr.log.String(), "not saved") {
			t.Errorf("got %v write errors, log %s", got, tr.log)
		}
		if got := tr.drift(&mlenginev1.GetDriftRequest{}).GetRows(); got != 5 {
			t.Errorf("got %d rows, want 5", got)
		}
		if err := tr.Stop(t.Context()); err == nil {
			t.Error("stop: got no error")
		}
	})
}

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
		want, got := tr.drift(&mlenginev1.GetDriftRequest{Bins: true}), scrape(t, reg)
		check := func(name string, want float64) {
			t.Helper()
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s: got %v, want %v", name, v, want)
			}
		}
		check("ml_psi_score overall", want.GetOverall().GetPsi())
		check("ml_psi_score_28d overall", want.GetOverall().GetPsi()) // the same rows
		check("ml_psi_null_q99 overall", want.GetOverall().GetNullQ99())
		for _, f := range want.GetFeatures() {
			check("ml_psi_score "+f.GetFeature(), f.GetReading().GetPsi())
			check("ml_psi_samples "+f.GetFeature(), 600)
			check("ml_feature_role "+f.GetFeature()+" "+f.GetRole(), 1)
			for _, b := range f.GetBins() {
				bin := f.GetFeature() + " " + b.GetBin() + "@" + a.Manifest.Files[model.ReferenceFile][:8]
				for series, v := range got { // labels come in the order of their names: bin, feature
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

// scrape is every series by its name and the values of its labels.
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

func TestGetDriftRefuses(t *testing.T) {
	tr := open(t, enginetest.Artifact(t, "v1.8.1", "v1"), "", false)
	defer tr.stop()
	service := monitor.NewService(tr.Monitor)
	for _, d := range []time.Duration{0, -time.Hour, 90 * time.Minute, 673 * time.Hour} {
		_, err := service.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{Window: durationpb.New(d)})
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
	w.Observe(time.Now(), monitor.Rows{X: []float64{1}, Scores: []float64{1}}) // counts nothing, and does not fall over
	if _, err := service.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("no reference: got %v", err)
	}
	other := enginetest.Artifact(t, "v1.8.1", "v3")
	other.Reference = enginetest.Artifact(t, "v1.8", "v3").Reference
	if _, err := tr.Monitor.Watch(other); err == nil || !strings.Contains(err.Error(), "schema v1.8.1") {
		t.Errorf("reference of another schema: got %v", err)
	}
}

// Handlers count while scrapes read and the saver saves.
func TestConcurrent(t *testing.T) {
	tr := open(t, enginetest.Artifact(t, "v1.8.1", "v1"), t.TempDir(), false)
	reg := prometheus.NewRegistry()
	tr.RegisterMetrics(reg)
	var load sync.WaitGroup
	for g := range 4 {
		load.Go(func() { tr.observe(rand.New(rand.NewPCG(uint64(g), 0)), 2000, g%2 == 0, time.Time{}) })
	}
	for range 5 {
		scrape(t, reg)
		tr.drift(&mlenginev1.GetDriftRequest{History: true, Bins: true})
	}
	load.Wait()
	if got := tr.drift(&mlenginev1.GetDriftRequest{}).GetRows(); got != 8000 {
		t.Errorf("got %d rows, want 8000", got)
	}
	tr.stop()
}

func TestObserveDoesNotAllocate(t *testing.T) {
	tr := open(t, enginetest.Artifact(t, "v1.8.1", "v1"), "", false)
	defer tr.stop()
	x := enginetest.Vector(rand.New(rand.NewPCG(1, 0)), tr.model.Schema)
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		tr.watch.Observe(now, monitor.Rows{X: x, Scores: []float64{0.5}, Inputs: []string{"mid"}, Values: []float64{100}})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
