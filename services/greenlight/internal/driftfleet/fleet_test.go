package driftfleet

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func fleetOf(t *testing.T, hours int, history bool, engines ...*engine) *Report {
	t.Helper()
	r, err := Read(t.Context(), replicas(engines...), hours, history)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestUnion distributes rows over replicas, and gives all rows to a single engine. The report of the fleet must equal the
// report of the single engine in every figure, including the history. One replica lags, as one that counts by event time may;
// another one has no rows.
func TestUnion(t *testing.T) {
	p := profile(t)
	for _, hours := range []int{24, 100, 168, 672} {
		rng := rand.New(rand.NewPCG(uint64(hours), 0))
		one, fleet := newEngine(p), []*engine{newEngine(p), newEngine(p), newEngine(p)}
		for age := 15 * 24; age >= 0; age-- {
			hour := int64(newest - age)
			for _, x := range vectors(rng, 5) {
				to := fleet[rng.IntN(2)]
				if age < 30 {
					to = fleet[0] // the other replica ends here
				}
				if rng.IntN(3) == 0 || age%24 < 4 {
					x = x[:3]
				}
				one.ring.Observe(hour, x)
				to.ring.Observe(hour, x)
			}
		}
		want, got := fleetOf(t, hours, true, one), fleetOf(t, hours, true, fleet...)
		sum := uint64(0)
		for _, r := range got.Replicas {
			sum += r.Rows
		}
		if len(got.Replicas) != 3 || got.Replicas[2].Rows != 0 || sum != want.Replicas[0].Rows || sum == 0 {
			t.Errorf("%d hours: replicas %+v, want %d rows of the first two", hours, got.Replicas, want.Replicas[0].Rows)
		}
		for i, p := range want.History {
			if i >= len(got.History) || !reflect.DeepEqual(got.History[i], p) {
				t.Fatalf("%d hours: point %d of the history is not %+v", hours, i, p)
			}
		}
		got.Replicas, want.Replicas, got.Sources, want.Sources = nil, nil, nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d hours: overall %+v of %d rows, want %+v of %d rows", hours, got.Overall, got.Rows, want.Overall, want.Rows)
		}
		if len(want.History) != 16 || !want.History[0].Partial || want.History[5].Partial == want.History[6].Partial {
			t.Errorf("%d hours: history %+v: want 16 points, of which the first 6 are partial", hours, want.History)
		}
	}
}

// TestWindow checks that only rows in the window count, to the hour.
func TestWindow(t *testing.T) {
	e := newEngine(profile(t))
	for age := 30; age >= 0; age-- {
		e.ring.Observe(newest-int64(age), []float64{0, 1, 0.5})
	}
	r := fleetOf(t, 24, false, e)
	end := time.Unix((newest+1)*3600, 0).UTC()
	if want := (driftview.Window{Hours: 24, Start: end.Add(-24 * time.Hour), End: end}); r.Rows != 24 || r.Window != want || len(r.History) != 0 {
		t.Errorf("%d rows in %+v with %d points, want 24 in %+v", r.Rows, r.Window, len(r.History), want)
	}
	if r.Model.Version != "v1.8.1-rc1" || r.ReferenceDigest != e.reference || len(r.Unseen) != 1 {
		t.Errorf("model %+v, reference %s, unseen %v", r.Model, r.ReferenceDigest, r.Unseen)
	}
}

func TestNoRows(t *testing.T) {
	p := profile(t)
	r := fleetOf(t, 168, true, newEngine(p), newEngine(p))
	if r.Verdict != gate.Inconclusive || r.Overall != nil || !strings.Contains(r.Reason, "nothing was scored in the last 168 hours") || r.ReferenceRows != p.Rows {
		t.Errorf("got %+v", r)
	}
	// Rows that are older than the window do not count.
	e := newEngine(p)
	e.ring.Observe(newest-200, []float64{0, 1, 0.5})
	e.ring.Tick(newest)
	if r = fleetOf(t, 168, true, e); r.Overall != nil {
		t.Errorf("overall %+v, want none", r.Overall)
	}
}

func TestMismatch(t *testing.T) {
	p := profile(t)
	tests := []struct {
		name   string
		change func(*engine)
		want   string
	}{
		{"model", func(e *engine) { e.model = "v1.8-b0" }, "A and C have different models, v1.8.1-rc1 (111111111111) and v1.8-b0 (000000000000): their counts cannot be merged"},
		{"reference", func(e *engine) { e.reference = digest('b') }, "A and C have different references, aaaaaaaaaaaa and bbbbbbbbbbbb: their counts cannot be merged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other := newEngine(p)
			tt.change(other)
			_, err := Read(t.Context(), replicas(newEngine(p), newEngine(p), other), 168, true)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestMoved changes the hour or the model between two answers of a replica. After one change the fleet is read again; if it
// keeps changing, that is an error.
func TestMoved(t *testing.T) {
	p := profile(t)
	changes := map[string]func(call int, a *mlenginev1.GetDriftResponse){
		"hour":  func(call int, a *mlenginev1.GetDriftResponse) { a.WindowEndTime.Seconds += int64(3600 * call) },
		"model": func(call int, a *mlenginev1.GetDriftResponse) { a.ReferenceDigest = digest(byte('b' + call%2)) },
	}
	for name, change := range changes {
		fleet := []*engine{newEngine(p), newEngine(p)}
		for _, e := range fleet {
			e.ring.Observe(newest, []float64{0, 1, 0.5})
		}
		fleet[1].spoil = func(call int, a *mlenginev1.GetDriftResponse) {
			if call == 2 {
				change(call, a)
			}
		}
		if r := fleetOf(t, 168, true, fleet...); r.Rows != 2 {
			t.Errorf("%s: %d rows, want 2", name, r.Rows)
		}
		fleet[0].reference, fleet[1].calls = digest('c'), 0
		fleet[1].spoil = change
		if name == "hour" {
			fleet[1].reference = fleet[0].reference
		}
		if _, err := Read(t.Context(), replicas(fleet...), 168, true); !errors.Is(err, errMoved) || !strings.Contains(err.Error(), "drift of B") {
			t.Errorf("%s: got %v, want %v of B", name, err, errMoved)
		}
	}
}

// One ml-engine under two names is refused, and the error has both names: its counts would be added twice.
func TestOneEngineUnderTwoNames(t *testing.T) {
	p := profile(t)
	name := func(_ int, a *mlenginev1.GetDriftResponse) { a.InstanceId = "one" }
	a, b, c := newEngine(p), newEngine(p), newEngine(p)
	for _, e := range []*engine{a, b, c} {
		e.ring.Observe(newest, []float64{0, 1, 0.5})
	}
	a.spoil, c.spoil = name, name
	if _, err := Read(t.Context(), replicas(a, b, c), 168, false); !errors.Is(err, fleet.ErrDuplicate) || !strings.Contains(err.Error(), "ml-engines A and C are one process") {
		t.Errorf("got %v", err)
	}
	if _, err := Read(t.Context(), replicas(a, b), 168, false); err != nil {
		t.Errorf("two that are not: %v", err)
	}
}

// moveTo moves the window, with the hours of its rows, to the end.
func moveTo(a *mlenginev1.GetDriftResponse, end int64) {
	by := (end - a.GetWindowEndTime().GetSeconds()) / 3600
	a.WindowEndTime = &timestamppb.Timestamp{Seconds: end}
	for _, f := range a.GetFeatures() {
		f.Hours = slices.Clone(f.GetHours()) // features share them
		for i := range f.Hours {
			f.Hours[i] += by
		}
	}
}

func TestRefused(t *testing.T) {
	p := profile(t)
	tests := []struct {
		name  string
		spoil func(*mlenginev1.GetDriftResponse)
		want  string
	}{
		{"no feature", func(a *mlenginev1.GetDriftResponse) { a.Features = nil }, "drift of B: 0 features, but the reference has 4"},
		{"other feature", func(a *mlenginev1.GetDriftResponse) { a.Features[1].Feature = "c" }, `drift of B: feature "c"`},
		{"bins missing", func(a *mlenginev1.GetDriftResponse) { a.Features[1].Bins = nil }, `feature "b" with 0 bins`},
		{"rows that do not add up", func(a *mlenginev1.GetDriftResponse) { a.Features[1].Bins[0].Count++ }, `feature "b" has 1 rows, but its bins have 2`},
		{"other rows than its neighbours", func(a *mlenginev1.GetDriftResponse) {
			a.Rows = 9
			a.Features[1].Bins[0].Count++
			a.Features[1].Rows++
		}, `drift of B: counts of feature "b"`},
		{"more rows than vectors", func(a *mlenginev1.GetDriftResponse) { a.Rows = 0 }, "has 1 rows of 0"},
		{"no digest of the model", func(a *mlenginev1.GetDriftResponse) { a.ModelDigest = "" }, "model_digest is"},
		{"no version", func(a *mlenginev1.GetDriftResponse) { a.ModelVersion = "" }, "model_version is empty"},
		{"no digest of the reference", func(a *mlenginev1.GetDriftResponse) { a.ReferenceDigest = "x" }, "reference_digest is"},
		{"no window", func(a *mlenginev1.GetDriftResponse) { a.WindowEndTime = nil }, "window_end_time is not a whole hour"},
		{"window of half an hour", func(a *mlenginev1.GetDriftResponse) { a.WindowEndTime.Seconds += 1800 }, "window_end_time is not a whole hour"},
		{"hours of the future", func(a *mlenginev1.GetDriftResponse) { a.Features[0].Hours = []int64{1 << 40} }, "outside of the window"},
		{"hours of the past", func(a *mlenginev1.GetDriftResponse) { a.Features[0].Hours = []int64{1} }, "outside of the window"},
		{"endless instance", func(a *mlenginev1.GetDriftResponse) { a.InstanceId = strings.Repeat("x", 1000) }, "instance_id is"},
		{"a clock that is 400 days ahead", func(a *mlenginev1.GetDriftResponse) {
			moveTo(a, time.Now().AddDate(0, 0, 400).Truncate(time.Hour).Unix())
		}, "one of the two clocks is wrong"},
		{"an end of the year 9999", func(a *mlenginev1.GetDriftResponse) {
			moveTo(a, 253_402_297_200)
		}, "one of the two clocks is wrong"},
		{"no time that can be", func(a *mlenginev1.GetDriftResponse) { a.WindowEndTime = &timestamppb.Timestamp{Seconds: math.MinInt64} }, "window_end_time is not a whole hour"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other := newEngine(p)
			other.ring.Observe(newest, []float64{0, 1, 0.5})
			other.spoil = func(_ int, a *mlenginev1.GetDriftResponse) { tt.spoil(a) }
			if _, err := Read(t.Context(), replicas(newEngine(p), other), 168, false); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	broken := newEngine(p)
	broken.spoil = func(_ int, a *mlenginev1.GetDriftResponse) { a.Reference = []byte("{}") }
	if _, err := Read(t.Context(), replicas(broken), 168, false); err == nil || !strings.Contains(err.Error(), "reference of A") {
		t.Errorf("got %v, want the reference of A", err)
	}
	if _, err := Read(t.Context(), nil, 168, false); err == nil {
		t.Error("a fleet without replicas was read")
	}
}

// A replica that does not answer is an error: without its counts, the sum would be too low.
func TestAbsent(t *testing.T) {
	p := profile(t)
	absent := newEngine(p)
	absent.err = context.DeadlineExceeded
	if _, err := Read(t.Context(), replicas(newEngine(p), absent), 168, false); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "drift of B") {
		t.Errorf("got %v, want %v of B", err, context.DeadlineExceeded)
	}
}
