package driftview

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestVerdict(t *testing.T) {
	tests := []struct {
		name  string
		days  int
		moved [4]float64
		want  gate.Verdict
		// mention and not are what the reason has, and has not.
		mention, not string
	}{
		{"nothing moved", 7, [4]float64{}, gate.Pass, "", ":"},
		{"the price moved", 7, [4]float64{0, 0, 0, 3}, gate.Pass, "", ":"},
		{"the score moved", 7, [4]float64{0, 0, 2, 0}, gate.Pass, "", ":"},
		{"a feature moved", 7, [4]float64{0, 0.57, 0, 0}, gate.Fail, "rsi14_z: PSI", "overall"},
		{"all moved", 7, [4]float64{2, 2, 2, 2}, gate.Fail, "overall: PSI", "mid"},
		{"too few days, told once", 4, [4]float64{2, 2, 2, 2}, gate.Inconclusive, "overall: 400 rows, 500 needed", "rsi14_z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := report(t, tt.days, true, tt.moved)
			if r.Verdict != tt.want || !strings.Contains(r.Reason, tt.mention) || strings.Contains(r.Reason, tt.not) || (r.Reason == "") != r.Verdict.OK() {
				t.Errorf("got %s, %q, want %s that mentions %q and not %q", r.Verdict, r.Reason, tt.want, tt.mention, tt.not)
			}
			if !strings.HasSuffix(r.Line(), ": "+string(r.Overall.Verdict)) {
				t.Errorf("line %q: want the overall verdict at its end", r.Line())
			}
		})
	}
}

func TestKeys(t *testing.T) {
	r := report(t, 7, true, [4]float64{})
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Verdict string
		Window  struct {
			Hours int
			Start string `json:"start_time"`
			End   string `json:"window_end"`
		}
		Overall  map[string]any
		Rows     int
		Features []map[string]any
		History  []struct {
			End      string `json:"window_end_time"`
			Partial  bool
			Features map[string]float64
		}
	}
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	if read.Rows != 700 || read.Window.Hours != 168 || read.Window.Start != "2026-08-25T12:00:00Z" || len(read.History) != 3 ||
		!read.History[0].Partial || read.History[2].Partial || read.History[2].End != "2026-09-01T12:00:00Z" || len(read.History[2].Features) != 4 {
		t.Errorf("got %+v", read)
	}
	for _, key := range []string{"psi", "status", "samples", "null_q99", "p_value", "threshold", "verdict"} {
		if _, ok := read.Overall[key]; !ok {
			t.Errorf("overall has no %s", key)
		}
		if _, ok := read.Features[0][key]; !ok {
			t.Errorf("a feature has no %s", key)
		}
	}
	for _, key := range []string{"feature", "role", "bins", "effective_rows", "q_value"} {
		if _, ok := read.Features[0][key]; !ok {
			t.Errorf("a feature has no %s", key)
		}
	}
}

// No rows are no index: null and not 0.
func TestEmpty(t *testing.T) {
	columns, of := sample(1, 28, [4]float64{})
	p, err := drift.NewProfile(columns, of)
	if err != nil {
		t.Fatal(err)
	}
	for name, profile := range map[string]*drift.Profile{"no rows": p, "no reference": nil} {
		r := Empty(profile, Window{Hours: 168}, "no rows: nothing was scored")
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"verdict":"INCONCLUSIVE"`, `"reason":"no rows: nothing was scored"`, `"overall":null`, `"rows":0`, `"features":[]`, `"history":[]`, `"window":{"hours":168}`} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("%s: no %s in %s", name, want, raw)
			}
		}
		if want := profile != nil; (r.ReferenceRows == 2800 && len(r.Unseen) == 4) != want {
			t.Errorf("%s: %d rows of reference, unseen %v", name, r.ReferenceRows, r.Unseen)
		}
		var table strings.Builder
		figures, err := r.Figures("", "")
		if err != nil || len(figures) != 0 || r.Table(&table, Numbers) != nil || table.Len() != 0 || r.Story() != "" {
			t.Errorf("%s: %d figures (%v), table %q, story %q: want none of them", name, len(figures), err, table.String(), r.Story())
		}
		if want := "no PSI: no rows: nothing was scored: INCONCLUSIVE"; r.Line() != want {
			t.Errorf("%s: line %q, want %q", name, r.Line(), want)
		}
	}
}

// The weighted index is shown beside the mean and follows from the features, which a recheck verifies.
func TestWeighted(t *testing.T) {
	columns, of := sample(1, 28, [4]float64{})
	columns[0].Weight, columns[1].Weight = 0.2, 0.8
	p, err := drift.NewProfile(columns, of)
	if err != nil {
		t.Fatal(err)
	}
	c := drift.NewCounts(p)
	present, days := sample(2, 7, [4]float64{1})
	for i, day := range days {
		c.Observe(day, []float64{present[0].Values[i], present[1].Values[i], present[2].Values[i]})
	}
	s, err := p.Snapshot(c, drift.NewNulls(p, 200, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	r := New(s, Window{}, drift.DefaultLimits())
	if found := r.Recheck(); len(found) > 0 || r.Weighted == nil || !(r.Weighted.PSI < r.Overall.PSI) {
		t.Errorf("weighted %+v beside %v: %v", r.Weighted, r.Overall.PSI, found)
	}
	var table strings.Builder
	if err := r.Table(&table, NoBins); err != nil || !regexp.MustCompile(`(?m)^overall +weighted +0\.\d+ `).MatchString(table.String()) {
		t.Errorf("%v: no weighted index in\n%s", err, table.String())
	}
	r.Weighted.PSI /= 2
	if found := strings.Join(r.Recheck(), "; "); !strings.Contains(found, "the weighted index is") {
		t.Errorf("a changed index: found %q", found)
	}
}
