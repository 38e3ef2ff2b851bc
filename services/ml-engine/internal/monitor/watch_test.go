package monitor_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// rowsOf returns the rows by feature, and how many of them have no value.
func rowsOf(resp *mlenginev1.GetDriftResponse) (rows, missing map[string]uint64) {
	rows, missing = map[string]uint64{}, map[string]uint64{}
	for _, f := range resp.GetFeatures() {
		rows[f.GetFeature()] = f.GetRows()
		for _, b := range f.GetBins() {
			if b.GetBin() == drift.Missing {
				missing[f.GetFeature()] = b.GetCount()
			}
		}
	}
	return rows, missing
}

func TestObserve(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	nan := math.NaN()
	rng := rand.New(rand.NewPCG(1, 0))
	vectors := func(n int) (x []float64) {
		for range n {
			x = append(x, enginetest.Vector(rng, a.Schema)...)
		}
		return x
	}
	for name, tt := range map[string]struct {
		r                  monitor.Rows
		scored, inputs     uint64
		missMid, missSpred uint64
	}{
		"no rows":                {monitor.Rows{}, 0, 0, 0, 0},
		"one without inputs":     {monitor.Rows{X: vectors(1), Scores: []float64{0.5}}, 1, 0, 0, 0},
		"failed rows":            {monitor.Rows{X: vectors(3), Scores: []float64{nan, 0.5, nan}}, 1, 0, 0, 0},
		"names nobody knows":     {monitor.Rows{X: vectors(1), Scores: []float64{0.5}, Inputs: []string{"x", "y"}, Values: []float64{1, 2}}, 1, 0, 0, 0},
		"one of several inputs":  {monitor.Rows{X: vectors(1), Scores: []float64{0.5}, Inputs: []string{"x", "mid"}, Values: []float64{1, 100}}, 1, 1, 0, 1},
		"inputs that are absent": {monitor.Rows{X: vectors(2), Scores: []float64{0.5, 0.5}, Inputs: []string{"mid", "spread_bp"}, Values: []float64{nan, nan, nan, 2}}, 2, 1, 1, 0},
		"inputs of a failed row": {monitor.Rows{X: vectors(2), Scores: []float64{nan, 0.5}, Inputs: []string{"mid"}, Values: []float64{100, nan}}, 1, 0, 0, 0},
		"a large batch":          {monitor.Rows{X: vectors(1000), Scores: make([]float64, 1000), Inputs: []string{"mid"}, Values: make([]float64, 1000)}, 1000, 1000, 0, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			tr := open(t, a, "", false)
			defer tr.stop()
			tr.watch.Observe(time.Now(), tt.r)
			rows, missing := rowsOf(tr.drift(&mlenginev1.GetDriftRequest{Bins: true}))
			if len(rows) != 11 || rows["score"] != tt.scored || rows["rsi14_z"] != tt.scored || rows["mid"] != tt.inputs || rows["rsi14"] != tt.inputs {
				t.Errorf("rows: got %v, want %d scored, %d with inputs", rows, tt.scored, tt.inputs)
			}
			if missing["mid"] != tt.missMid || missing["spread_bp"] != tt.missSpred || missing["score"] != 0 {
				t.Errorf("missing: got %v, want %d mids and %d spreads", missing, tt.missMid, tt.missSpred)
			}
		})
	}
}

// A clock was ahead for a day and is corrected: its rows are in the window that ends now, none in the future.
func TestClockIsSetBack(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, a, "", false)
		defer tr.stop()
		x := enginetest.Vector(rand.New(rand.NewPCG(1, 0)), a.Schema)
		observe := func(at time.Time) { tr.watch.Observe(at, monitor.Rows{X: x, Scores: []float64{0.5}}) }
		const day = 24 * time.Hour
		for hour := range 24 {
			observe(time.Now())
			observe(time.Now().Add(-time.Duration(hour) * time.Second)) // as from a delayed handler
			time.Sleep(time.Hour)
		}
		for range 3 {
			observe(time.Now().Add(3 * day))
		}
		for range 2 {
			observe(time.Now()) // correct again: accepted in its second hour
			time.Sleep(time.Hour)
		}
		got := tr.drift(&mlenginev1.GetDriftRequest{Bins: true})
		if want := time.Now().Truncate(time.Hour).Add(time.Hour); !got.GetWindowEndTime().AsTime().Equal(want) || got.GetRows() != 2*24+3+2 || got.GetDays() != 2 {
			t.Errorf("got %d rows on %d days up to %v, want 53 on 2 up to %v", got.GetRows(), got.GetDays(), got.GetWindowEndTime().AsTime(), want)
		}
	})
}

// By event time, the newest hour is the present. A row without a valid event time counts there.
func TestEventClock(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	event := time.Date(2020, 5, 1, 10, 30, 0, 0, time.UTC).UnixMilli()
	hour := time.Hour.Milliseconds()
	for name, tt := range map[string]struct {
		events []int64
		end    time.Time // of the window of 2 hours
		rows   uint64    // in it
	}{
		"in order":                {[]int64{event, event + hour}, time.Date(2020, 5, 1, 12, 0, 0, 0, time.UTC), 2},
		"late":                    {[]int64{event + hour, event - 24*hour, event}, time.Date(2020, 5, 1, 12, 0, 0, 0, time.UTC), 2},
		"not known":               {[]int64{event, 0, -1}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 3},
		"no time that can be":     {[]int64{event, math.MaxInt64, math.MinInt64}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 3},
		"nothing known: arrivals": {[]int64{0, 0}, time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), 2},
		"no times at all":         {nil, time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), 1},
		"in 1970":                 {[]int64{5}, time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC), 1},
		"the year 9999":           {[]int64{event, event + 1, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMilli(), event + 2}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 4},
		"1800 and the year 1":     {[]int64{event, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 3},
		"one far ahead":           {[]int64{event, event + 1, event + 1000*hour, event + 2}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 4},
		"the same far ahead":      {[]int64{event, event + 1, event + 1000*hour, event + 1000*hour, event + 2}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 5},
		"two that do not agree":   {[]int64{event, event + 1, event + 1000*hour, event + 2000*hour, event + 2}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 5},
		"between good ones":       {[]int64{event, event + 1, event + 1000*hour, event + 2, event + 1001*hour, event + 3}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 6},
		"a break, and on":         {[]int64{event, event + 1, event + 72*hour, event + 72*hour + 1}, time.Date(2020, 5, 4, 11, 0, 0, 0, time.UTC), 1},
		"the first is wild":       {[]int64{event + 1000*hour, event, event + 1}, time.Date(2020, 5, 1, 11, 0, 0, 0, time.UTC), 3},
		"the first has no time":   {[]int64{0, 946_684_800_000 - 1000*hour, 946_684_800_000 - 999*hour}, time.Date(1999, 11, 20, 10, 0, 0, 0, time.UTC), 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := open(t, a, "", true)
				defer tr.stop()
				n := max(len(tt.events), 1)
				r := monitor.Rows{Scores: make([]float64, n), EventMS: tt.events}
				for range n {
					r.X = append(r.X, enginetest.Vector(rand.New(rand.NewPCG(1, 0)), a.Schema)...)
				}
				tr.watch.Observe(time.Now(), r)
				got := tr.drift(window(2 * time.Hour))
				if !got.GetWindowEndTime().AsTime().Equal(tt.end) || got.GetRows() != tt.rows || got.GetWindowStartTime().CheckValid() != nil {
					t.Errorf("got %d rows up to %v, want %d up to %v", got.GetRows(), got.GetWindowEndTime().AsTime(), tt.rows, tt.end)
				}
			})
		})
	}
}

// An event time ahead of the clock is ignored and counted. The row counts in the newest hour.
func TestEventsAheadOfTheClock(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	synctest.Test(t, func(t *testing.T) {
		tr := limited(t, a, "", time.Minute)
		defer tr.stop()
		now := time.Now()
		for _, d := range []time.Duration{-2 * time.Hour, -time.Hour, time.Minute, time.Minute + time.Millisecond, 30 * time.Hour, 9000 * time.Hour} {
			tr.observe(rand.New(rand.NewPCG(1, 0)), 1, false, now.Add(d))
		}
		if got := tr.drift(window(4 * time.Hour)); got.GetRows() != 6 || !got.GetWindowEndTime().AsTime().Equal(now.Truncate(time.Hour).Add(time.Hour)) {
			t.Errorf("got %d rows up to %v, want 6 up to the present hour", got.GetRows(), got.GetWindowEndTime().AsTime())
		}
		reg := prometheus.NewRegistry()
		tr.RegisterMetrics(reg)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ml_drift_event_time_ignored_total Rows counted by event time whose event time is invalid: before 1973, after 2199 or ahead of the clock. They count in the newest hour.
# TYPE ml_drift_event_time_ignored_total counter
ml_drift_event_time_ignored_total 3
`), "ml_drift_event_time_ignored_total"); err != nil {
			t.Error(err)
		}
	})
}

// Counts saved by an older version with an hour in the year 9999 continue without that hour, and the file is kept. The same
// happens in a process whose clock was wrong, in its next hour.
func TestCountsAheadOfTheClock(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 0))
	synctest.Test(t, func(t *testing.T) {
		past := time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC)
		old := open(t, a, dir, true) // without a limit, as older versions
		for i := range 20 {
			old.observe(rng, 1, false, past.Add(time.Duration(i)*time.Hour))
		}
		old.observe(rng, 1, false, time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC))
		old.observe(rng, 1, false, time.Date(2150, 1, 1, 1, 0, 0, 0, time.UTC))
		if got := old.drift(window(24 * time.Hour)); got.GetWindowEndTime().AsTime().Year() != 2150 {
			t.Fatalf("the window ends %v", got.GetWindowEndTime().AsTime())
		}
		old.stop()
		files, err := filepath.Glob(filepath.Join(dir, "drift-*.json"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.Chtimes(files[0], time.Now(), time.Now()); err != nil { // in the bubble's time
			t.Fatal(err)
		}
		tr := limited(t, a, dir, time.Minute)
		defer tr.stop()
		want := past.Add(20 * time.Hour)
		if got := tr.drift(window(24 * time.Hour)); got.GetRows() != 21 || !got.GetWindowEndTime().AsTime().Equal(want) { // including the one that waited
			t.Errorf("got %d rows up to %v, want 21 up to %v", got.GetRows(), got.GetWindowEndTime().AsTime(), want)
		}
		aside, err := filepath.Glob(files[0] + ".unusable-*")
		if err != nil || len(aside) != 1 || !strings.Contains(tr.log.String(), "rows of future hours are dropped") {
			t.Errorf("set aside: %v, %v; log %s", aside, err, tr.log)
		}
	})
}

func TestObserveDoesNotAllocate(t *testing.T) {
	tr := open(t, enginetest.Artifact(t, "v1.8.1", "v1"), "", false)
	defer tr.stop()
	x := enginetest.Vector(rand.New(rand.NewPCG(1, 1)), tr.model.Schema)
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		tr.watch.Observe(now, monitor.Rows{X: x, Scores: []float64{0.5}, Inputs: []string{"mid"}, Values: []float64{100}})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
