package agent

import (
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// A clock that jumps is trusted once it has been steady for half an hour. A single wrong reading is never trusted.
func TestClockThatJumps(t *testing.T) {
	const day = 24 * time.Hour
	type step struct {
		wall, monotonic time.Duration // since the first tick
		trusted         bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"steady", []step{{0, 0, true}, {time.Hour, time.Hour, true}, {8 * day, 8 * day, true}}},
		{"adjusted by a minute", []step{{0, 0, true}, {time.Hour + time.Minute, time.Hour, true}}},
		{"8 days ahead for a moment", []step{{0, 0, true}, {8*day + time.Hour, time.Hour, false}, {2 * time.Hour, 2 * time.Hour, true}}},
		{"8 days ahead for good", []step{{0, 0, true}, {8*day + time.Hour, time.Hour, false}, {8*day + time.Hour + time.Minute, time.Hour + time.Minute, false}, {8*day + 2*time.Hour, 2 * time.Hour, true}}},
		{"ahead, and further ahead", []step{{0, 0, true}, {8*day + time.Hour, time.Hour, false}, {400*day + 2*time.Hour, 2 * time.Hour, false}, {3 * time.Hour, 3 * time.Hour, true}}},
		{"400 days back for a moment", []step{{0, 0, true}, {-400 * day, time.Hour, false}, {2 * time.Hour, 2 * time.Hour, true}}},
		{"after a sleep of the machine", []step{{0, 0, true}, {10 * time.Hour, time.Hour, false}, {11 * time.Hour, 2 * time.Hour, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c clockCheck
			for i, s := range tt.steps {
				if got := c.trusted(moment{begin.Add(s.wall), s.monotonic}); got != s.trusted {
					t.Fatalf("step %d: trusted %v, want %v", i, got, s.trusted)
				}
			}
		})
	}
}

// A tick with a clock 8 days ahead writes reports for days that are not over. With the correct clock, each report is replaced
// once its day is over, and no other tick is lost.
func TestPrematureReportsAreReplaced(t *testing.T) {
	state, folder := t.TempDir(), t.TempDir()
	a := newAgent(t, state, folder)
	tick := func(now time.Time) {
		t.Helper()
		if err := a.Tick(t.Context(), now); err != nil {
			t.Fatal(now, err)
		}
	}
	for h := range 6*24 + 1 {
		tick(at(0, h))
		if h == 30 {
			tick(at(8, h))
			if s := readSummary(t, folder, "daily/report_2026-06-08.json"); s.Samples != 0 {
				t.Fatalf("the wrong clock gives %d samples of a day in the future", s.Samples)
			}
		}
	}
	for d := range 6 {
		name := report.Day(at(d, 0)).Name
		s := readSummary(t, folder, filepath.Join("daily", "report_"+name+".json"))
		if s.Requests != 9600 || math.Abs(s.Coverage-1) > 1e-12 || s.Restarts != 0 || s.Samples != 24 || s.Verdict != gate.Pass {
			t.Errorf("%s: %d requests of %d samples, coverage %v, %d restarts, %s", name, s.Requests, s.Samples, s.Coverage, s.Restarts, s.Verdict)
		}
	}
	if r, err := evidence.Verify(folder); err != nil || r.Err() != nil {
		t.Errorf("evidence: %v, %v", err, r.Err())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
