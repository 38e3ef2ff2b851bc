package driftview

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestVerdict(t *testing.T) {
	tests := []struct {
		name  string
		days  int
		moved [4]float64
		want  gate.Verdict
		// The reason contains mention and does not contain not.
		mention, not string
	}{
		{"nothing moved", 7, [4]float64{}, gate.Pass, "", ":"},
		{"the price moved", 7, [4]float64{0, 0, 0, 3}, gate.Pass, "", ":"},
		{"the score moved", 7, [4]float64{0, 0, 2, 0}, gate.Pass, "", ":"},
		{"a feature moved", 7, [4]float64{0, 0.57, 0, 0}, gate.Fail, "rsi14_z: PSI", "overall"},
		{"all moved", 7, [4]float64{2, 2, 2, 2}, gate.Fail, "overall: PSI", "mid"},
		{"too few days, reported once", 4, [4]float64{2, 2, 2, 2}, gate.Inconclusive, "overall: 400 rows, 500 needed", "rsi14_z"},
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

// Without rows there is no PSI: it is null and not 0.
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
		figures := r.Figures("", "")
		if figures.Err != nil || len(figures.All) != 0 || r.Table(&table, Numbers) != nil || table.Len() != 0 || r.Story() != "" {
			t.Errorf("%s: %d figures (%v), table %q, story %q: want none of them", name, len(figures.All), figures.Err, table.String(), r.Story())
		}
		if want := "no PSI: no rows: nothing was scored: INCONCLUSIVE"; r.Line() != want {
			t.Errorf("%s: line %q, want %q", name, r.Line(), want)
		}
	}
}

// The table shows the weighted PSI, and a recheck verifies that it follows from the features.
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
	if found := r.Recheck(drift.StatusOf); len(found) > 0 || r.Weighted == nil || !(r.Weighted.PSI < r.Overall.PSI) {
		t.Errorf("weighted %+v, overall %v: %v", r.Weighted, r.Overall.PSI, found)
	}
	var table strings.Builder
	if err := r.Table(&table, NoBins); err != nil || !regexp.MustCompile(`(?m)^overall +weighted +0\.\d+ `).MatchString(table.String()) {
		t.Errorf("%v: no weighted PSI in\n%s", err, table.String())
	}
	r.Weighted.PSI /= 2
	if found := strings.Join(r.Recheck(drift.StatusOf), "; "); !strings.Contains(found, "the weighted PSI is") {
		t.Errorf("a changed PSI: found %q", found)
	}
}

func TestStory(t *testing.T) {
	tests := []struct {
		name  string
		days  int
		raw   bool
		moved [4]float64
		want  []string
	}{
		{"no drift", 7, true, [4]float64{}, []string{"No drift"}},
		{"drift of the market alone", 7, true, [4]float64{0, 0, 0, 3}, []string{"The market has moved, but the model's features have not", "raw mid (", "overall"}},
		{"drift of the market and the model", 7, true, [4]float64{2, 0, 0, 3}, []string{"and the model's features with it", "mid (", "overall (", "vol1m_log_rel ("}},
		{"drift of the score", 7, true, [4]float64{0, 0, 2, 0}, []string{"no longer sees what it was trained on: score ("}},
		{"no raw inputs", 7, false, [4]float64{}, []string{"No drift", "without raw inputs"}},
		{"drift of the model without raw inputs", 7, false, [4]float64{2, 0, 0, 3}, []string{"no longer sees what it was trained on: overall (", "without raw inputs"}},
		{"too few days", 4, true, [4]float64{2, 2, 2, 2}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := report(t, tt.days, tt.raw, tt.moved).Story()
			if (got == "") != (tt.want == nil) {
				t.Errorf("got %q", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}

func TestFigures(t *testing.T) {
	r := report(t, 7, true, [4]float64{})
	figures := r.Figures("psi_compare/", r.Title("v1.8.1-rc1", evidence.Simulated))
	if figures.Err != nil {
		t.Fatal(figures.Err)
	}
	var names []string
	for _, f := range figures.All {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(f.Name, "psi_compare/psi_"), ".svg"))
		if !strings.Contains(string(f.SVG), "v1.8.1-rc1, 2026-08-25 to 2026-09-01 (SIMULATED)") {
			t.Errorf("%s lacks the title", f.Name)
		}
	}
	if want := []string{"vol1m_log_rel", "rsi14_z", "score", "mid", "overview", "history"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	history := string(figures.All[len(figures.All)-1].SVG)
	for _, want := range []string{"3 of them", "window not full yet", "PSI of the raw inputs"} {
		if !strings.Contains(history, want) {
			t.Errorf("no %q in the history", want)
		}
	}
	// Without a history there is no figure for it, and without a window there is no time in the title.
	r.History, r.Window = nil, Window{}
	if figures = r.Figures("", r.Title("x", evidence.Live)); figures.Err != nil || len(figures.All) != 5 || !strings.Contains(string(figures.All[0].SVG), ">Drift of vol1m_log_rel: x<") {
		t.Errorf("%d figures, %v", len(figures.All), figures.Err)
	}
}
