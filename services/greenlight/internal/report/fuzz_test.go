package report

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzJournal reads arbitrary journals. A journal is refused with the bad line, or its samples are written as they were read
// and add up to figures that JSON can hold.
func FuzzJournal(f *testing.F) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var good bytes.Buffer
	for i := range 3 {
		n := uint64(100 * (i + 1))
		line, err := json.Marshal(Sample{
			Time: start.Add(time.Duration(i) * time.Hour), Drift: &Drift{PSI: 0.1, Rows: 900, Verdict: "PASS"},
			Executors: []Counters{{
				Executor: "a", Instance: "i", Start: start, Requests: n, Matches: n - 5, Mismatches: 2, Failed: 3,
				Edges: []float64{1, 60, 80}, Latency: []uint64{n - 3, 1, 1, 1},
			}},
		})
		if err != nil {
			f.Fatal(err)
		}
		good.Write(append(line, '\n'))
	}
	f.Add(good.String())
	f.Add(strings.Replace(good.String(), `"requests":200`, `"requests":18446744073709551615`, 1))
	f.Add(strings.Replace(good.String(), `"latency_edges_ms":[1,60,80]`, `"latency_edges_ms":[80,1]`, 1))
	f.Add("null\n{}\n")
	since := time.Time{}.AddDate(-1, 0, 0) // of all times that JSON can tell, none is earlier
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, journalName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		samples, err := ReadJournal(dir, since)
		if err != nil {
			if samples != nil || !strings.Contains(err.Error(), " line ") {
				t.Fatalf("%d samples with %v", len(samples), err)
			}
			return
		}
		if want := strings.Count(text, "\n"); len(samples) != want {
			t.Fatalf("%d samples of %d lines", len(samples), want)
		}
		for _, p := range []Period{Day(start), Week(start)} {
			s := Summarize(p, samples)
			if !(s.Coverage >= 0 && s.Coverage <= 1) {
				t.Fatalf("%s: coverage %v", p.Name, s.Coverage)
			}
			for _, figure := range s.Figures {
				if figure.Value != nil && (math.IsNaN(*figure.Value) || math.IsInf(*figure.Value, 0)) {
					t.Fatalf("%s: %s is %v", p.Name, figure.Name, *figure.Value)
				}
			}
			if _, err := s.Table(); err != nil {
				t.Fatal(err)
			}
		}
		again := t.TempDir()
		j, err := OpenJournal(again)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for i := range min(len(samples), 3) {
			if err := j.Append(samples[i]); err != nil {
				t.Fatalf("sample %d cannot be written: %v", i, err)
			}
		}
		back, err := ReadJournal(again, since)
		if err != nil || !reflect.DeepEqual(back, samples[:min(len(samples), 3):min(len(samples), 3)]) && len(back) > 0 {
			t.Fatalf("got %+v, %v, want %+v", back, err, samples)
		}
	})
}
