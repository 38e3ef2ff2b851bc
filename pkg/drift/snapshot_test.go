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

// shifted is columns with every value moved.
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
	null := func(days int) *drift.Null {
		n, err := drift.NewNull(p, days, 300, 1)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	present := func(by float64, days, perDay int) *drift.Counts {
		columns, of := rows(2, days, perDay)
		return count(p, shifted(columns, by), of)
	}
	tests := []struct {
		name    string
		c       *drift.Counts
		null    *drift.Null
		want    gate.Verdict
		status  drift.Status
		mention string
	}{
		{"no drift", present(0, 7, 100), null(7), gate.Pass, drift.Stable, ""},
		{"drift", present(2, 7, 100), null(7), gate.Fail, drift.Critical, "above the threshold"},
		{"drift on few rows", present(2, 7, 71), null(7), gate.Inconclusive, drift.Critical, "497 rows, 500 needed"},
		{"drift on few days", present(2, 4, 200), null(4), gate.Inconclusive, drift.Critical, "4 days, 5 needed"},
		{"no drift on few rows", present(0, 7, 71), null(7), gate.Inconclusive, drift.Stable, "497 rows"},
		{"noise not known", present(0, 7, 100), nil, gate.Inconclusive, drift.Stable, "not known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := p.Snapshot(tt.c, tt.null, drift.DefaultLimits())
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
	null, err := drift.NewNull(p, 7, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Snapshot(count(p, columns, days), null, drift.DefaultLimits())
	if err != nil || s.Overall.Verdict != gate.Inconclusive || !strings.Contains(s.Overall.Reason, "4 days of reference") {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestSnapshotKeys(t *testing.T) {
	columns, days := rows(1, 6, 100)
	p := profile(t, columns, days)
	null, err := drift.NewNull(p, 6, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Snapshot(count(p, columns, days), null, drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		`"rows":600,"days":6,"reference_rows":600,"reference_days":6,"overall":{"psi":0,"status":"stable","samples":600,"null_expected":`,
		`"null_q95":`, `"null_q99":`, `"threshold":0.2,"verdict":"PASS","reason":""}`, `"features":[{"feature":"wander","psi":0`,
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
	if _, err := p.Snapshot(drift.NewCounts(p), nil, drift.DefaultLimits()); !errors.Is(err, drift.ErrNoRows) {
		t.Errorf("no rows: got %v, want %v", err, drift.ErrNoRows)
	}
	null, err := drift.NewNull(p, 7, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Snapshot(count(p, columns, days), null, drift.DefaultLimits()); err == nil || !strings.Contains(err.Error(), "7 days: want 3 and 6") {
		t.Errorf("null of other days: got %v", err)
	}
}
