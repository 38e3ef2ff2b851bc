package drift_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestJudge(t *testing.T) {
	tests := []struct {
		name                string
		psi, threshold, q99 float64
		want                gate.Verdict
		mention             string
	}{
		{"quiet", 0.05, 0.2, 0.1, gate.Pass, ""},
		{"quiet, and noisy", 0.19, 0.2, 0.5, gate.Pass, ""},
		{"drift", 0.25, 0.2, 0.1, gate.Fail, "above the threshold 0.2"},
		{"drift beyond noise", 0.6, 0.2, 0.5, gate.Fail, "above 0.5"},
		{"within noise", 0.4, 0.2, 0.5, gate.Inconclusive, "not above 0.5"},
		{"at the quantile", 0.5, 0.2, 0.5, gate.Inconclusive, "not above 0.5"},
		{"at the threshold", 0.2, 0.2, 0.1, gate.Inconclusive, "is the threshold"},
		{"no index", nan, 0.2, 0.1, gate.Error, "PSI NaN"},
		{"no quantile", 0.1, 0.2, nan, gate.Error, "99 % NaN"},
		{"infinite", inf, 0.2, 0.1, gate.Error, "PSI +Inf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, reason := drift.Judge(tt.psi, tt.threshold, tt.q99)
			if got != tt.want || !strings.Contains(reason, tt.mention) || (reason == "") != (got == gate.Pass) {
				t.Errorf("got %s, %q, want %s that mentions %q", got, reason, tt.want, tt.mention)
			}
		})
	}
}

// shifted returns columns with every value moved.
func shifted(columns []drift.Column, by float64) []drift.Column {
	moved := make([]drift.Column, len(columns))
	for j, c := range columns {
		moved[j] = drift.Column{Name: c.Name}
		for _, v := range c.Values {
			moved[j].Values = append(moved[j].Values, v+by)
		}
	}
	return moved
}

func TestSnapshot(t *testing.T) {
	reference, days := rows(1, 28, 100)
	p := profile(t, reference, days)
	nulls := drift.NewNulls(p, 300, 1)
	present := func(by float64, days, perDay int) *drift.Counts {
		columns, of := rows(2, days, perDay)
		return count(p, shifted(columns, by), of)
	}
	tests := []struct {
		name    string
		c       *drift.Counts
		want    gate.Verdict
		status  drift.Status
		mention string
	}{
		{"no drift", present(0, 7, 100), gate.Pass, drift.Stable, ""},
		{"drift", present(2, 7, 100), gate.Fail, drift.Critical, "above the threshold"},
		{"drift on few rows", present(2, 7, 71), gate.Inconclusive, drift.Critical, "497 rows, 500 needed"},
		{"drift on few days", present(2, 4, 200), gate.Inconclusive, drift.Critical, "4 days, 5 needed"},
		{"no drift on few rows", present(0, 7, 71), gate.Inconclusive, drift.Stable, "497 rows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := p.Snapshot(tt.c, nulls, drift.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			o := s.Overall
			if o.Verdict != tt.want || o.Status != tt.status || !strings.Contains(o.Reason, tt.mention) || o.Threshold != 0.2 {
				t.Errorf("got %+v, want %s, %s that mentions %q", o, tt.want, tt.status, tt.mention)
			}
			overall, features := p.PSI(tt.c)
			if o.PSI != overall || len(s.Features) != 3 {
				t.Fatalf("got %v of %d features, want %v", o.PSI, len(s.Features), overall)
			}
			for i, f := range s.Features {
				sum := 0.0
				for _, b := range f.Bins {
					sum += b.PSI
				}
				if f.PSI != features[i] || !same(sum, f.PSI) || f.Threshold != 0.3 || f.Feature != reference[i].Name || f.Samples != s.Rows {
					t.Errorf("feature %d: got %+v, want %v", i, f, features[i])
				}
			}
		})
	}
}

func TestSnapshotOfShortReference(t *testing.T) {
	columns, days := rows(1, 4, 200)
	p := profile(t, columns, days)
	columns, days = rows(2, 7, 100)
	s, err := p.Snapshot(count(p, columns, days), drift.NewNulls(p, 100, 1), drift.DefaultLimits())
	if err != nil || s.Overall.Verdict != gate.Inconclusive || !strings.Contains(s.Overall.Reason, "4 days of reference") {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestSnapshotKeys(t *testing.T) {
	columns, days := rows(1, 6, 100)
	p := profile(t, columns, days)
	s, err := p.Snapshot(count(p, columns, days), drift.NewNulls(p, 100, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		`"rows":600,"days":6,"reference_rows":600,"reference_days":6,"overall":{"psi":0,"status":"stable","samples":600,"null_expected":`,
		`"null_q95":`, `"null_q99":`, `"p_value":1,"threshold":0.2,"verdict":"PASS","reason":""}`, `"features":[{"feature":"wander","role":"feature","psi":0`, `"q_value":1,"days":6,"effective_rows":`, `"shifted":[]`,
		`"bins":[{"bin":"q1","range":"\u003c= `, `"reference":0.1,"current":0.1,"psi":0}`, `"bin":"missing"`,
	} {
		if !strings.Contains(string(raw), key) {
			t.Errorf("no %s in %s", key, raw)
		}
	}
	var back drift.Snapshot
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(&back, s) {
		t.Errorf("read back: got %+v, %v, want %+v", &back, err, s)
	}
}

func TestSnapshotErrors(t *testing.T) {
	columns, days := rows(1, 6, 100)
	p := profile(t, columns, days)
	if _, err := p.Snapshot(drift.NewCounts(p), drift.NewNulls(p, 10, 1), drift.DefaultLimits()); !errors.Is(err, drift.ErrNoRows) {
		t.Errorf("no rows: got %v, want %v", err, drift.ErrNoRows)
	}
	other := drift.NewNulls(profile(t, columns, days), 10, 1)
	if _, err := p.Snapshot(count(p, columns, days), other, drift.DefaultLimits()); !errors.Is(err, drift.ErrProfile) {
		t.Errorf("nulls of another profile: got %v, want %v", err, drift.ErrProfile)
	}
}

// mixed returns a profile with two features, a score and a raw input, and its columns.
func mixed(t *testing.T, seed uint64, days, perDay int) ([]drift.Column, []int) {
	t.Helper()
	columns, of := rows(seed, days, perDay)
	columns[2].Role = drift.Score
	raw := drift.Column{Name: "mid", Role: drift.RawInput}
	for i, v := range columns[0].Values {
		raw.Values = append(raw.Values, v+float64(of[i]))
	}
	return append(columns, raw), of
}

// The overall index covers only the model's features. Raw inputs count only where they were sent, and their shift is
// reported separately.
func TestSnapshotOfRoles(t *testing.T) {
	reference, days := mixed(t, 1, 28, 100)
	p := profile(t, reference, days)
	if p.Scored() != 3 {
		t.Fatalf("got %d scored, want 3", p.Scored())
	}
	present, presentDays := mixed(t, 2, 7, 100)
	nulls := drift.NewNulls(p, 500, 1)
	c := drift.NewCounts(p)
	x := make([]float64, len(present))
	observe := func(from, to, width int) {
		for i := from; i < to; i++ {
			for j := range x {
				x[j] = present[j].Values[i]
			}
			x[3] += 40 // the price moved
			c.Observe(presentDays[i], x[:width])
		}
	}
	observe(0, 200, 3)
	s, err := p.Snapshot(c, nulls, drift.DefaultLimits())
	if err != nil || !reflect.DeepEqual(s.Unseen, []string{"mid"}) || len(s.Features) != 3 {
		t.Fatalf("no raw input yet: got %+v, %v", s, err)
	}
	observe(200, 700, 4)
	if s, err = p.Snapshot(c, nulls, drift.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	mid := s.Features[3]
	if s.Rows != 700 || s.Days != 7 || mid.Samples != 500 || mid.Days != 5 || mid.Verdict != gate.Fail || len(s.Unseen) != 0 {
		t.Errorf("got %d rows of %d days and %+v, want 700 of 7 and a FAIL on 500 of 5", s.Rows, s.Days, mid)
	}
	if got, want := s.Overall.PSI, (s.Features[0].PSI+s.Features[1].PSI)/2; !same(got, want) || s.Overall.Verdict != gate.Pass {
		t.Errorf("overall: got %v %s, want %v PASS", got, s.Overall.Verdict, want)
	}
	if !reflect.DeepEqual(s.Shifted, []string{"mid"}) || !(*mid.Q < 0.05) {
		t.Errorf("shifted: got %v, q %v, want mid", s.Shifted, *mid.Q)
	}
	for _, f := range s.Features {
		if f.Role != reference[0].Role && f.Role == "" || !(f.Effective > 0 && f.Effective <= float64(f.Samples)) || !(*f.P > 0 && *f.P <= *f.Q && *f.Q <= 1) {
			t.Errorf("got %+v", f)
		}
	}
}

func TestRoleErrors(t *testing.T) {
	one := []float64{1, 2}
	for name, tt := range map[string]struct {
		columns []drift.Column
		mention string
	}{
		"unknown":      {[]drift.Column{{Name: "x", Role: "other", Values: one}}, `role "other"`},
		"order":        {[]drift.Column{{Name: "raw", Role: drift.RawInput, Values: one}, {Name: "x", Values: one}}, "raw inputs come last"},
		"only a score": {[]drift.Column{{Name: "score", Role: drift.Score, Values: one}}, "no model feature"},
	} {
		if _, err := drift.NewProfile(tt.columns, []int{1, 2}); err == nil || !strings.Contains(err.Error(), tt.mention) {
			t.Errorf("%s: got %v, want mention of %q", name, err, tt.mention)
		}
	}
}

func TestCountsOf(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	c := count(p, reference, days)
	c.Observe(2, []float64{0, 0, 1})
	bins := func() [][]uint64 {
		var all [][]uint64
		for i := range p.Features {
			all = append(all, append([]uint64(nil), c.Bins(i)...))
		}
		return all
	}
	back, err := drift.CountsOf(p, bins(), c.DaysOf(0), c.DaysOf(3))
	if err != nil {
		t.Fatal(err)
	}
	nulls := drift.NewNulls(p, 50, 1)
	want, err := p.Snapshot(c, nulls, drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Snapshot(back, nulls, drift.DefaultLimits()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for name, tt := range map[string]struct {
		change  func(bins [][]uint64) [][]uint64
		days    []int
		mention string
	}{
		"features": {func(b [][]uint64) [][]uint64 { return b[:2] }, days[:1], "the profile has 4"},
		"bins":     {func(b [][]uint64) [][]uint64 { b[1] = b[1][1:]; return b }, days[:1], `feature "steps"`},
		"rows":     {func(b [][]uint64) [][]uint64 { b[1][0]++; return b }, days[:1], "but others have 601"},
		"days":     {func(b [][]uint64) [][]uint64 { return b }, nil, "do not agree"},
		"inputs":   {func(b [][]uint64) [][]uint64 { b[3][0] += 2; return b }, days[:1], "do not agree"},
	} {
		if _, err := drift.CountsOf(p, tt.change(bins()), tt.days, []int{1}); err == nil || !strings.Contains(err.Error(), tt.mention) {
			t.Errorf("%s: got %v, want mention of %q", name, err, tt.mention)
		}
	}
}
