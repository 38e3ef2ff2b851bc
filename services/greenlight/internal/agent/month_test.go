package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
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

// readPair samples a simulated pair of executors. Each serves 200 requests an hour: 97 % match, 2 % do not and 1 % fail,
// all within 10 ms. The first restarts on the 10th at 12:30. The second does not answer on the 12th from 02:00 to 22:00,
// nor on the 13th. ml-engine does not answer on the 24th, starting at 06:00. The PSI is 0.4 from the 15th to the 17th, and
// 0.05 otherwise.
func readPair(_ context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
	s := report.Sample{Time: now}
	for _, name := range []string{"a", "b"} {
		if name == "b" && (!now.Before(at(11, 2)) && now.Before(at(11, 22)) || now.After(at(12, 0)) && now.Before(at(13, 1))) {
			s.Missing = append(s.Missing, report.Missing{Service: report.Executor, Address: name, Reason: "connection refused"})
			continue
		}
		start, instance := begin, "first"
		if restart := at(9, 12).Add(30 * time.Minute); name == "a" && now.After(restart) {
			start, instance = restart, "second"
		}
		halves := uint64(now.Sub(start) / (30 * time.Minute))
		c := report.Counters{
			Executor: name, Instance: instance, Start: start, Requests: 100 * halves, Edges: []float64{10, 20},
			Model:   evidence.Model{Version: "v1.8.1-rc1", Digest: strings.Repeat("ab", 32)},
			Matches: 97 * halves, Mismatches: 2 * halves, Failed: halves, Latency: []uint64{100 * halves, 0, 0},
		}
		s.Executors = append(s.Executors, c)
	}
	if !now.Before(at(23, 6)) && now.Before(at(24, 1)) {
		s.Missing = append(s.Missing, report.Missing{Service: report.Engine, Address: "e", Reason: "connection refused"})
		return s, nil
	}
	psi, q99 := 0.05, 0.15
	if !now.Before(at(14, 0)) && now.Before(at(17, 0)) {
		psi = 0.4
	}
	s.Drift = &report.Drift{Time: now, PSI: psi, Rows: 10_000, Days: 7, ReferenceRows: 40_000, ReferenceDays: 28, Q99: &q99}
	s.Drift.Verdict, s.Drift.Reason = s.Drift.Judge()
	return s, nil
}

func newAgent(t *testing.T, state, folder string) *Agent {
	t.Helper()
	a, err := New(Options{
		State: state, Evidence: folder, Source: evidence.Simulated, CriticalHours: 24, Raise: noGates, Read: readPair,
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

// monthFolder is the environment variable that names a folder in which TestMonth leaves its evidence for inspection.
const monthFolder = "GREENLIGHT_MONTH"

// month returns the folders of a simulated month.
func month(t *testing.T) (state, folder string) {
	t.Helper()
	keep := os.Getenv(monthFolder)
	if keep == "" {
		return t.TempDir(), t.TempDir()
	}
	if left, err := os.ReadDir(keep); err == nil && len(left) > 0 {
		t.Fatalf("%s=%s: the folder is not empty", monthFolder, keep)
	}
	state, folder = filepath.Join(keep, "state"), filepath.Join(keep, "evidence", "ml")
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("the evidence is left in %s", folder)
	return state, folder
}

// simulateMonth ticks through 30 days and returns the heap size after every week. The agent is down from the 20th at
// 06:00 to the 22nd at 06:00.
func simulateMonth(t *testing.T, state, folder string) (*Agent, []uint64) {
	t.Helper()
	a := newAgent(t, state, folder)
	var heaps []uint64
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
		if h >= (len(heaps)+1)*7*24 {
			heaps = append(heaps, heap())
		}
	}
	return a, heaps
}

func TestMonth(t *testing.T) {
	state, folder := month(t)
	a, heaps := simulateMonth(t, state, folder)
	for week, bytes := range heaps {
		t.Logf("heap after week %d: %d KiB", week+1, bytes>>10)
	}
	if grown := int64(heaps[len(heaps)-1]) - int64(heaps[0]); grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes from the first week to the last", grown)
	}
	days, err := filepath.Glob(filepath.Join(folder, "daily", "report_*.json"))
	if err != nil || len(days) != 30 {
		t.Errorf("%d daily reports, %v: want 30", len(days), err)
	}
	checkDays(t, folder)
	weeks, err := filepath.Glob(filepath.Join(folder, "weekly", "summary_*.json"))
	if err != nil || len(weeks) != 4 {
		t.Errorf("weeks %v, %v: want 4", weeks, err)
	}
	// The summary of the week is written a minute before its end, without the 200 requests of the last half hour.
	if w := readSummary(t, folder, "weekly/summary_2026-W23.json"); w.Requests != 7*9600-200 || !w.Complete || len(w.Days) != 7 {
		t.Errorf("first week: %d requests, complete %v", w.Requests, w.Complete)
	}
	suggestions, err := filepath.Glob(filepath.Join(folder, "retrain_suggestion_*.json"))
	if err != nil || len(suggestions) != 1 || filepath.Base(suggestions[0]) != "retrain_suggestion_20260615T000000Z.json" {
		t.Errorf("suggestions %v, %v: want one, since the 15th", suggestions, err)
	}
	all, err := os.ReadFile(filepath.Join(folder, "daily", "ml_daily_reports.csv"))
	if err != nil || strings.Count(string(all), "\n") != 1+30*5 {
		t.Errorf("%d lines in the table of all days, %v: want 151", strings.Count(string(all), "\n"), err)
	}
	r, err := evidence.Verify(folder)
	if err != nil || r.Err() != nil {
		t.Errorf("evidence: %v, %v", err, r.Err())
	}
	if n := testutil.ToFloat64(a.Metrics.writeErrors); n != 0 {
		t.Errorf("%v writes failed", n)
	}
	// Further ticks at the same time do not write a report again, in this process or in another.
	for range 2 {
		if err := a.Tick(t.Context(), at(30, 0)); err != nil {
			t.Fatal(err)
		}
		again, err := evidence.Verify(folder)
		if err != nil || again.Head != r.Head {
			t.Errorf("another tick wrote something: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		a = newAgent(t, state, folder)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// checkDays checks the special days of the month, and two ordinary ones.
func checkDays(t *testing.T, folder string) {
	t.Helper()
	tests := []struct {
		day      string
		requests uint64
		coverage float64
		restarts int
		verdict  gate.Verdict
		// psi and seen are the verdicts of the index and of the coverage.
		psi, seen gate.Verdict
	}{
		{"2026-06-01", 9600, 1, 0, gate.Pass, gate.Pass, gate.Pass},
		{"2026-06-10", 9500, 1 - 0.25/24, 1, gate.Pass, gate.Pass, gate.Pass}, // the counts from 12:00 to the restart at 12:30 are lost
		{"2026-06-12", 9600, 1, 0, gate.Pass, gate.Pass, gate.Pass},           // the counts of b include the hours in which it did not answer
		{"2026-06-13", 4800, 0.5, 0, gate.Inconclusive, gate.Pass, gate.Inconclusive},
		{"2026-06-14", 4800 + 23*200, 0.5 + 23.0/48, 0, gate.Pass, gate.Pass, gate.Pass},
		{"2026-06-15", 9600, 1, 0, gate.Fail, gate.Fail, gate.Pass},
		{"2026-06-20", 2400, 0.25, 0, gate.Inconclusive, gate.Inconclusive, gate.Inconclusive},
		{"2026-06-21", 0, 0, 0, gate.Error, gate.Error, gate.Error}, // the agent was down all day
		{"2026-06-22", 7200, 0.75, 0, gate.Inconclusive, gate.Pass, gate.Inconclusive},
		{"2026-06-24", 9600, 1, 0, gate.Inconclusive, gate.Inconclusive, gate.Pass}, // ml-engine did not answer, starting at 06:00
		{"2026-06-30", 9600, 1, 0, gate.Pass, gate.Pass, gate.Pass},
	}
	for _, tt := range tests {
		s := readSummary(t, folder, "daily/report_"+tt.day+".json")
		if s.Requests != tt.requests || math.Abs(s.Coverage-tt.coverage) > 1e-12 || s.Restarts != tt.restarts || s.Verdict != tt.verdict {
			t.Errorf("%s: %d requests, coverage %v (complete %v), %d restarts, %s: want %+v", tt.day, s.Requests, s.Coverage, s.Complete, s.Restarts, s.Verdict, tt)
		}
		for _, f := range s.Figures {
			switch {
			case f.Name == report.PSI && f.Verdict != tt.psi, f.Name == report.Coverage && f.Verdict != tt.seen:
				t.Errorf("%s: %+v, want %+v", tt.day, f, tt)
			case tt.verdict == gate.Error && (f.Verdict != gate.Error || f.Value != nil || !strings.Contains(f.Reason, "no sample was taken")):
				t.Errorf("%s: %+v, want no data", tt.day, f)
			case f.Name == gate.ShadowErrorRate && tt.requests > 0 && (f.Value == nil || *f.Value != 0.01 || f.N != tt.requests):
				t.Errorf("%s: %+v, want one in a hundred", tt.day, f)
			case f.Name == gate.ShadowMatch && tt.requests > 0 && (f.Value == nil || *f.Value != 97.0/99 || f.N != tt.requests/100*99):
				t.Errorf("%s: %+v, want 97 of 99", tt.day, f)
			case f.Name == gate.ShadowP95 && tt.requests > 0 && (f.Value == nil || *f.Value != 9.5 || f.N != tt.requests):
				t.Errorf("%s: %+v, want 9.5 ms", tt.day, f)
			}
		}
	}
}
