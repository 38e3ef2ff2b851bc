package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// begin is a Monday.
var begin = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func at(days, hours int) time.Time {
	return begin.AddDate(0, 0, days).Add(time.Duration(hours) * time.Hour)
}

// world is one executor that serves 100 requests an hour, of which 97 match, 2 do not and 1 fails, all within 10 ms. It
// restarts on the 10th at 12:30. The index is 0.4 from the 15th to the 17th, and 0.05 otherwise.
func world(_ context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
	start, instance := begin, "a"
	if restart := at(9, 12).Add(30 * time.Minute); now.After(restart) {
		start, instance = restart, "b"
	}
	halves := uint64(now.Sub(start) / (30 * time.Minute))
	psi := 0.05
	if !now.Before(at(14, 0)) && now.Before(at(17, 0)) {
		psi = 0.4
	}
	c := report.Counters{Executor: "x", Instance: instance, Start: start, Requests: 50 * halves, Edges: []float64{10, 20}}
	c.Matches, c.Mismatches, c.Failed = 97*halves/2, 2*halves/2, halves/2
	c.Latency = []uint64{50 * halves, 0, 0}
	d := &report.Drift{PSI: psi, Rows: 10_000, Verdict: gate.Pass}
	return report.Sample{Time: now, Executors: []report.Counters{c}, Drift: d}, nil
}

func newAgent(t *testing.T, state, folder string) *Agent {
	t.Helper()
	a, err := New(Options{
		State: state, Evidence: folder, Source: evidence.Simulated, CriticalSamples: 24, Read: world,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func readSummary(t *testing.T, folder, name string) (s report.Weekly) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, name))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMonth ticks through 30 days with an executor that restarts, three days of drift, and an agent that is down from the
// 20th at 06:00 to the 22nd at 06:00.
func TestMonth(t *testing.T) {
	state, folder := t.TempDir(), t.TempDir()
	a := newAgent(t, state, folder)
	var week1 uint64
	tick := func(now time.Time) {
		if err := a.Tick(t.Context(), now); err != nil {
			t.Fatal(now, err)
		}
	}
	for h := range 30*24 + 1 {
		now := at(0, h)
		if now.After(at(19, 6)) && now.Before(at(21, 6)) {
			continue
		}
		if now.Equal(at(21, 6)) { // a new process
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			a = newAgent(t, state, folder)
		}
		tick(now)
		if now.Weekday() == time.Sunday && now.Hour() == 23 {
			tick(now.Add(59 * time.Minute))
		}
		if h == 7*24 {
			week1 = heap()
		}
	}
	if grown := int64(heap()) - int64(week1); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes from the first week to the last", grown)
	}
	days, err := filepath.Glob(filepath.Join(folder, "daily", "report_*.json"))
	if err != nil || len(days) != 30 {
		t.Errorf("%d daily reports, %v: want 30", len(days), err)
	}
	tests := []struct {
		day      string
		requests uint64
		coverage float64
		restarts int
		verdict  gate.Verdict
	}{
		{"2026-06-01", 2400, 1, 0, gate.Pass},
		{"2026-06-10", 2350, 23.5 / 24, 1, gate.Pass}, // from 12:00 to the restart at 12:30 is lost
		{"2026-06-14", 2400, 1, 0, gate.Pass},
		{"2026-06-15", 2400, 1, 0, gate.Fail},
		{"2026-06-20", 600, 0.25, 0, gate.Pass},
		{"2026-06-21", 0, 0, 0, gate.Error}, // the agent was down all day
		{"2026-06-22", 1800, 0.75, 0, gate.Pass},
		{"2026-06-30", 2400, 1, 0, gate.Pass},
	}
	for _, tt := range tests {
		s := readSummary(t, folder, "daily/report_"+tt.day+".json")
		if s.Requests != tt.requests || s.Coverage != tt.coverage || s.Complete != (tt.coverage == 1) || s.Restarts != tt.restarts || s.Verdict != tt.verdict {
			t.Errorf("%s: %d requests, coverage %v (complete %v), %d restarts, %s: want %+v", tt.day, s.Requests, s.Coverage, s.Complete, s.Restarts, s.Verdict, tt)
		}
		for _, f := range s.Figures {
			if tt.verdict == gate.Error && (f.Verdict != gate.Error || f.Value != nil || !strings.Contains(f.Reason, "no data")) {
				t.Errorf("%s: %+v, want no data", tt.day, f)
			}
			if f.Name == gate.ShadowErrorRate && tt.requests == 2400 && (f.Value == nil || *f.Value != 0.01 || f.N != 2400) {
				t.Errorf("%s: %+v, want 24 of 2,400", tt.day, f)
			}
			if f.Name == gate.ShadowMatch && tt.requests == 2400 && (f.Value == nil || *f.Value != 2328.0/2376 || f.N != 2376) {
				t.Errorf("%s: %+v, want 2,328 of 2,376", tt.day, f)
			}
			if f.Name == gate.ShadowP95 && tt.requests == 2400 && (f.Value == nil || *f.Value != 9.5 || f.N != 2400) {
				t.Errorf("%s: %+v, want 9.5 ms", tt.day, f)
			}
		}
	}
	weeks, err := filepath.Glob(filepath.Join(folder, "weekly", "summary_*.json"))
	if err != nil || len(weeks) != 4 {
		t.Errorf("weeks %v, %v: want 4", weeks, err)
	}
	// The last minute of the week is not over when it is summed up, nor are its 50 requests of the last half hour.
	if w := readSummary(t, folder, "weekly/summary_2026-W23.json"); w.Requests != 7*2400-50 || !w.Complete || len(w.Days) != 7 {
		t.Errorf("first week: %d requests, complete %v", w.Requests, w.Complete)
	}
	suggestions, err := filepath.Glob(filepath.Join(folder, "retrain_suggestion_*.json"))
	if err != nil || len(suggestions) != 1 || filepath.Base(suggestions[0]) != "retrain_suggestion_20260615T000000Z.json" {
		t.Errorf("suggestions %v, %v: want one, since the 15th", suggestions, err)
	}
	all, err := os.ReadFile(filepath.Join(folder, "daily", "ml_daily_reports.csv"))
	if err != nil || strings.Count(string(all), "\n") != 1+30*4 {
		t.Errorf("%d lines in the table of all days, %v: want 121", strings.Count(string(all), "\n"), err)
	}
	r, err := evidence.Verify(folder)
	if err != nil || r.Err() != nil {
		t.Errorf("evidence: %v, %v", err, r.Err())
	}
	if n := testutil.ToFloat64(a.Metrics.writeErrors); n != 0 {
		t.Errorf("%v writes failed", n)
	}
	// Twice at the same time writes no report again.
	tick(at(30, 0))
	again, err := evidence.Verify(folder)
	if err != nil || again.Head != r.Head {
		t.Errorf("a second tick wrote something: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
