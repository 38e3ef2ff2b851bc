package report

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func TestWeek(t *testing.T) {
	tests := []struct{ day, name, start string }{
		{"2026-03-01", "2026-W09", "2026-02-23"}, // a Sunday
		{"2026-03-02", "2026-W10", "2026-03-02"},
		{"2027-01-01", "2026-W53", "2026-12-28"},
	}
	for _, tt := range tests {
		d, err := time.Parse(time.DateOnly, tt.day)
		if err != nil {
			t.Fatal(err)
		}
		if p := Week(d); p.Name != tt.name || p.Start.Format(time.DateOnly) != tt.start || p.End.Sub(p.Start) != 7*day {
			t.Errorf("week of %s is %+v, want %s from %s", tt.day, p, tt.name, tt.start)
		}
	}
}

// A sample cut short by a kill is not read, and the next one starts a new line.
func TestTornJournal(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range 2 {
		j, err := OpenJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.Append(Sample{Time: now.Add(time.Duration(i) * time.Hour)}), j.Close()); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, journalName)
		raw, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, append(raw, `{"time":"20`...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if samples, err := ReadJournal(dir, time.Time{}); err != nil || len(samples) != i+1 || !samples[i].Time.Equal(now.Add(time.Duration(i)*time.Hour)) {
			t.Errorf("read %v, %v: want %d samples", samples, err, i+1)
		}
	}
}

// A journal that is truncated anywhere keeps its whole samples, and can be continued.
func TestJournalCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	sample := func(i int) Sample {
		return Sample{Time: time.Unix(int64(i), 0).UTC(), Missing: []Missing{{Executor, "a", "ü\n"}}, Drift: &Drift{PSI: 0.1, Verdict: "PASS"}}
	}
	for i := range 3 {
		if err := j.Append(sample(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		want := bytes.Count(whole[:cut], []byte{'\n'})
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if samples, err := ReadJournal(dir, time.Time{}); err != nil || len(samples) != want {
			t.Fatalf("cut at %d: %d samples, %v; want %d", cut, len(samples), err, want)
		}
		j, err := OpenJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.Append(sample(9)), j.Close()); err != nil {
			t.Fatal(err)
		}
		if samples, err := ReadJournal(dir, time.Time{}); err != nil || len(samples) != want+1 || !samples[want].Time.Equal(sample(9).Time) {
			t.Fatalf("cut at %d: went on to %v, %v", cut, samples, err)
		}
	}
}

// After a kill between the tables and the document, the next write completes it, and no line is duplicated.
func TestUnfinishedReport(t *testing.T) {
	folder := t.TempDir()
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := Summarize(Day(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)), nil)
	h := evidence.Header{Source: evidence.Simulated}
	rows, err := s.Table()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.WriteFile(CumulativeName, rows); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(folder, CumulativeName))
	if err != nil {
		t.Fatal(err)
	}
	for i, first := range []bool{true, false} {
		if wrote, err := WriteDaily(folder, store, h, s); err != nil || wrote != first {
			t.Errorf("write %d: wrote %v, %v, want %v", i+1, wrote, err, first)
		}
		if got, err := os.ReadFile(filepath.Join(folder, CumulativeName)); err != nil || string(got) != string(want) {
			t.Errorf("write %d: the table is %q, %v, want %q", i+1, got, err, want)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// An executor with an invalid start time does not stop the journal.
func TestStartsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, start := range []*timestamppb.Timestamp{nil, {Seconds: math.MaxInt64}, {Seconds: math.MinInt64}, {Nanos: -1}, {Seconds: 253_402_300_799}} {
		s := Sample{Time: now, Executors: []Counters{CountersOf(fleet.CountersOf("a", &executorv1.GetShadowReportResponse{StartTime: start, InstanceId: start.String()}, now))}}
		if err := j.Append(s); err != nil {
			t.Errorf("%v: %v", start, err)
		}
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	samples, err := ReadJournal(dir, time.Time{})
	if err != nil || len(samples) != 5 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	if got := Summarize(Day(now), samples); got.Samples != 5 || !(got.Coverage <= 1) {
		t.Errorf("%d samples, coverage %v", got.Samples, got.Coverage)
	}
}

// Samples taken by a wrong clock are dropped, and the others keep their order.
func TestJournalOfAWrongClock(t *testing.T) {
	hours := func(hours ...int) (s []Sample) {
		for _, h := range hours {
			s = append(s, Sample{Time: time.Date(2026, 6, 1, h, 0, 0, 0, time.UTC)})
		}
		return s
	}
	for _, tt := range []struct {
		name       string
		have, want []Sample
	}{
		{"none", nil, nil},
		{"in order", hours(1, 2, 2, 3), hours(1, 2, 2, 3)},
		{"8 days ahead once", hours(1, 2, 194, 3, 4, 5), hours(1, 2, 3, 4, 5)},
		{"ahead for a while", hours(1, 2, 194, 195, 3, 4, 5), hours(1, 2, 3, 4, 5)},
		{"back once", hours(1, 2, -9999, 3, 4), hours(1, 2, 3, 4)},
		{"ahead at the end", hours(1, 2, 3, 194), hours(1, 2, 3, 194)},
		{"several", hours(50, 1, 2, 194, 3, -7, 4), hours(1, 2, 3, 4)},
	} {
		if got := inOrder(tt.have); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

// The agent's journal of earlier versions can be read, and a restart counts from the start of the new process.
func TestJournalOfVersion19(t *testing.T) {
	dir := t.TempDir()
	line := func(at, instance, start, counts string) string {
		return `{"time":"2026-06-01T` + at + `:00Z","source":"live","executors":[{"executor":"a:1","instance":"` + instance + `","start_time":"2026-06-01T` + start +
			`:00Z","model":{"version":"v1","digest":"d"},` + counts + `,"latency_edges_ms":[1,60]}],"drift":null}` + "\n"
	}
	lines := line("01:00", "p", "00:00", `"requests":10,"matches":8,"mismatches":1,"failed":1,"sources":{"live":10},"latency":[8,1,1]`) +
		line("02:00", "p", "00:00", `"requests":30,"matches":24,"mismatches":3,"failed":3,"sources":{"live":29,"replay":1},"latency":[24,3,3]`) +
		line("03:00", "q", "02:30", `"requests":5,"matches":5,"mismatches":0,"failed":0,"latency":[5,0,0]`)
	if err := os.WriteFile(filepath.Join(dir, journalName), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	samples, err := ReadJournal(dir, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	day := Day(samples[0].Time)
	got := Summarize(day, samples)
	want := Counts{Matches: 29, Mismatches: 3, Failed: 3, Edges: []float64{1, 60}, Latency: []uint64{29, 3, 3}}
	if !reflect.DeepEqual(got.Counts, want) || got.Requests != 35 || got.Restarts != 1 {
		t.Errorf("got %+v of %d requests with %d restarts, want %+v of 35 with 1", got.Counts, got.Requests, got.Restarts, want)
	}
	if source := SourceOf(day, samples); source != evidence.Replay {
		t.Errorf("the source is %s, want the least live of the requests, replay", source)
	}
}
