package driftcompare

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// TestCompare checks the PSI values against a direct computation from the definition.
func TestCompare(t *testing.T) {
	reference, current := whole(t).Split(10)
	r := compare(t, reference, current)
	sum := 0.0
	for i, f := range r.Features {
		want := bruteForce(reference.columns[i].Values, current.columns[i].Values)
		if math.Abs(f.PSI-want) > 1e-9*want {
			t.Errorf("%s: got %v, want %v", f.Feature, f.PSI, want)
		}
		if f.Role == drift.ModelFeature {
			sum += want / 6
		}
	}
	if math.Abs(r.Overall.PSI-sum) > 1e-9*sum || r.Overall.Noise == nil {
		t.Errorf("overall %+v, want PSI %v", r.Overall, sum)
	}
	if r.Reference.Days != 10 || r.Current.Days != 9 || r.Current.Rows != r.Rows || r.Reference.Rows != r.ReferenceRows || r.Window.Hours != 9*24 {
		t.Errorf("sides %+v and %+v, window %+v", r.Reference, r.Current, r.Window)
	}
	if r.Reference.First != "2025-01-07" || r.Current.First != "2025-01-17" || r.Current.Last != "2025-01-25" {
		t.Errorf("days %s, %s to %s", r.Reference.First, r.Current.First, r.Current.Last)
	}
}

// bruteForce computes the PSI of values. No single value may have 5 % of the mass.
func bruteForce(reference, current []float64) float64 {
	sorted := slices.Sorted(slices.Values(reference))
	var edges []float64
	for i := 1; i < 10; i++ {
		at := float64(len(sorted)-1) * float64(i) / 10
		low := sorted[int(at)]
		edges = append(edges, low+(at-math.Floor(at))*(sorted[int(at)+1]-low))
	}
	shares := func(values []float64) []float64 {
		s := make([]float64, 10)
		for _, v := range values {
			bin := 0
			for bin < 9 && edges[bin] < v {
				bin++
			}
			s[bin] += 1 / float64(len(values))
		}
		return s
	}
	psi, from, to := 0.0, shares(reference), shares(current)
	for b := range from {
		p, q := max(drift.Floor, from[b]), max(drift.Floor, to[b])
		psi += (q - p) * math.Log(q/p)
	}
	return psi
}

// TestRolling compares each window with a separate comparison of its days.
func TestRolling(t *testing.T) {
	reference, current := whole(t).Split(10)
	r := compare(t, reference, current)
	if len(r.History) != 3 || !strings.HasPrefix(r.Rolling(), "3 windows of 7 days: overall PSI median ") {
		t.Fatalf("%d points in 9 days, want 3; %q", len(r.History), r.Rolling())
	}
	days := current.Days()
	for i, p := range r.History {
		alone := compare(t, reference, current.part(func(day int) bool { return day >= days[i] && day < days[i]+7 }))
		if p.Overall != alone.Overall.PSI || *p.Q99 != alone.Overall.Q99 || p.Verdict != alone.Overall.Verdict || p.Rows != alone.Rows || !p.End.Equal(alone.Window.End) {
			t.Errorf("point %d is %+v, want that of %+v", i, p, alone.Overall)
		}
		for _, f := range alone.Features {
			if p.Features[f.Feature] != f.PSI {
				t.Errorf("point %d: %s is %v, want %v", i, f.Feature, p.Features[f.Feature], f.PSI)
			}
		}
		if alone.Rolling() != "" {
			t.Errorf("a single week has a rolling line: %q", alone.Rolling())
		}
	}
}

// TestWeekends: windows without rows are not in the history.
func TestWeekends(t *testing.T) {
	reference, current := whole(t).Split(4)
	days := current.Days()
	holed := current.part(func(day int) bool { return day < days[2] || day >= days[12] })
	r := compare(t, reference, holed)
	var ends []int
	for _, p := range r.History {
		ends = append(ends, int(p.End.Unix()/86400)-days[0])
	}
	if want := []int{7, 8, 13, 14, 15}; !slices.Equal(ends, want) {
		t.Errorf("windows end after %v days, want %v: those between have no rows", ends, want)
	}
}

// A log has no raw inputs, so a comparison with a log covers only the model's features.
func TestMixed(t *testing.T) {
	market := whole(t)
	log, err := FromLog(featurelog.Log{Dir: logged(t, "GBP/USD", "v1.8.1")}, "", market.Schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	reference, current := market.Split(10)
	_, live := log.Split(10)
	want, got := compare(t, reference, current), compare(t, reference, live)
	if len(got.Features) != 6 || !slices.Equal(got.Unseen, []string{"mid", "spread_bp", "vol1m", "rsi14"}) || got.Overall.PSI != want.Overall.PSI {
		t.Errorf("a log: %d features, unseen %v, overall %v, want %v", len(got.Features), got.Unseen, got.Overall.PSI, want.Overall.PSI)
	}
	first, _ := log.Split(10)
	if got = compare(t, first, current); len(got.Features) != 6 || len(got.Unseen) != 0 || got.Overall.PSI != want.Overall.PSI {
		t.Errorf("a log for reference: %d features, unseen %v, overall %v, want %v", len(got.Features), got.Unseen, got.Overall.PSI, want.Overall.PSI)
	}
}

func TestTooFew(t *testing.T) {
	s := whole(t)
	reference, current := s.Split(10)
	none := s.part(func(int) bool { return false })
	day, _ := current.Split(1)
	short := *day
	short.columns, short.days = slices.Clone(day.columns), day.days[:100]
	for j := range short.columns {
		short.columns[j].Values = short.columns[j].Values[:100]
	}
	tests := []struct {
		name               string
		reference, current *Set
		want               string
	}{
		{"no reference", none, current, "0 rows of reference, 500 needed"},
		{"nothing current", reference, none, "0 rows of the current data, 500 needed"},
		{"few rows", reference, &short, "100 rows, 500 needed"},
		{"few days", reference, day, "1 day, 5 needed"},
		{"short reference", day, current, "1 day of reference, 5 needed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compare(t, tt.reference, tt.current)
			if r.Verdict != gate.Inconclusive || !strings.Contains(r.Reason, tt.want) || r.Story() != "" {
				t.Errorf("got %s, %q, want INCONCLUSIVE with %q", r.Verdict, r.Reason, tt.want)
			}
			if empty := tt.reference == none || tt.current == none; (r.Overall == nil) != empty {
				t.Errorf("overall %+v", r.Overall)
			}
		})
	}
}

func TestOtherSchema(t *testing.T) {
	s := whole(t)
	plain, err := FromMarket(data(t), schema(t, "v1.8"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(plain, s, DefaultOptions()); err == nil || !strings.Contains(err.Error(), "the reference has schema v1.8, but the current data has v1.8.1") {
		t.Errorf("got %v, want both schemas", err)
	}
	// If the reference has a score, the current data needs one too.
	scored, err := FromMarket(data(t), s.Schema, half{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(scored, s, DefaultOptions()); err == nil || !strings.Contains(err.Error(), "has no score") {
		t.Errorf("got %v, want the score that is missing", err)
	}
}

// The classifier uses only the model's features, so it does not matter if only the price moved.
func TestClassifier(t *testing.T) {
	reference, current := whole(t).Split(10)
	o := DefaultOptions()
	o.Classifier.Permutations, o.Classifier.MaxRows = 20, 200
	r, err := Compare(reference, current, o)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Classifier
	if c == nil || c.Permutations < 1 || c.Permutations > 20 || !(c.AUC > 0 && c.AUC < 1) || len(c.LeansOn) == 0 {
		t.Fatalf("classifier %+v", c)
	}
	for _, w := range c.LeansOn {
		if slices.Contains(strings.FieldsFunc(w.Input, func(r rune) bool { return r == '*' || r == '^' }), "mid") {
			t.Errorf("it leans on the price: %v", w)
		}
	}
	if got := r.Apart(); !strings.Contains(got, string(c.Verdict)+": AUC 0.") || !strings.Contains(got, fmt.Sprintf("of %d permutations", c.Permutations)) || !strings.Contains(got, "it leans on "+c.LeansOn[0].Input) {
		t.Errorf("got %q", got)
	}
	// The classifier names the feature that was shifted.
	moved := *current
	moved.columns = slices.Clone(current.columns)
	values := slices.Clone(moved.columns[3].Values)
	for i := range values {
		values[i] += 3
	}
	moved.columns[3].Values = values
	o.Classifier.Permutations = 120
	if r, err = Compare(reference, &moved, o); err != nil || r.Classifier.Verdict != gate.Fail || !strings.Contains(r.Apart(), "it leans on vol1m_log_rel ") {
		t.Errorf("moved: %q, %v", r.Apart(), err)
	}
	short, _ := current.Split(2)
	if r, err = Compare(reference, short, o); err != nil || r.Apart() != "INCONCLUSIVE: 10 days of reference and 2 of the present, 5 of each needed" {
		t.Errorf("short: %q, %v", r.Apart(), err)
	}
	if r = compare(t, reference, current); r.Classifier != nil || r.Apart() != "" {
		t.Errorf("without a classifier the line is %q", r.Apart())
	}
}
