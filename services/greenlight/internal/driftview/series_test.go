package driftview

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "psi_series.csv")
	r := report(t, 7, true, [4]float64{})
	at := time.Date(2026, 9, 1, 12, 30, 0, 0, time.UTC)
	// Two watches, one after the other. Each also gets an empty report, which adds no lines.
	for i := range 2 {
		s, err := OpenSeries(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range []*Report{Empty(nil, Window{}, "no rows"), r} {
			if err := s.Add(at.Add(time.Duration(i)*time.Minute), "v1.8.1-rc1", sample); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + 2*5; len(lines) != want {
		t.Fatalf("%d lines, want %d: headings, and overall and four features twice", len(lines), want)
	}
	if got, want := strings.Join(lines[6][:5], ","), "2026-09-01T12:31:00Z,2026-09-01T12:00:00Z,v1.8.1-rc1,overall,mean"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	last := lines[len(lines)-1]
	if last[3] != "mid" || last[4] != "input" || last[5] != number(r.Features[3].PSI) || last[9] != "700" || last[10] != "PASS" {
		t.Errorf("last line %v", last)
	}
}

func TestSeriesOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "psi_series.csv")
	for _, content := range []string{"time,price\n", "time"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSeries(path); err == nil || !strings.Contains(err.Error(), "not those of a PSI series") {
			t.Errorf("%q: got %v", content, err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != content {
			t.Errorf("the file is now %q, %v", raw, err)
		}
	}
}
