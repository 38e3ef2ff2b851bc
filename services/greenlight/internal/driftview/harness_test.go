package driftview

import (
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

const perDay = 100

// sample returns rows of two features, the score and the price over the given days. Values are normal, with a shift per
// column. The price has steps.
func sample(seed uint64, days int, moved [4]float64) (columns []drift.Column, of []int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	columns = []drift.Column{
		{Name: "vol1m_log_rel"}, {Name: "rsi14_z"}, {Name: "score", Role: drift.Score}, {Name: "mid", Role: drift.RawInput},
	}
	for i := range days * perDay {
		of = append(of, 20_000+i/perDay)
		for j := range columns {
			v := rng.NormFloat64() + moved[j]
			if j == 3 {
				v = math.Round(2 * v)
			}
			columns[j].Values = append(columns[j].Values, v)
		}
	}
	return columns, of
}

// snapshot returns a snapshot of shifted rows over the given days, with or without raw inputs.
func snapshot(t *testing.T, days int, raw bool, moved [4]float64) *drift.Snapshot {
	t.Helper()
	columns, of := sample(1, 28, [4]float64{})
	p, err := drift.NewProfile(columns, of)
	if err != nil {
		t.Fatal(err)
	}
	c := drift.NewCounts(p)
	columns, of = sample(2, days, moved)
	for i, day := range of {
		var x []float64
		for _, column := range columns {
			x = append(x, column.Values[i])
		}
		if !raw {
			x = x[:3]
		}
		c.Observe(day, x)
	}
	s, err := p.Snapshot(c, drift.NewNulls(p, 200, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// report returns the report of a snapshot, with a window and a history.
func report(t *testing.T, days int, raw bool, moved [4]float64) *Report {
	t.Helper()
	end := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	s := snapshot(t, days, raw, moved)
	r := New(s, Window{Hours: 24 * days, Start: end.Add(-time.Duration(days) * 24 * time.Hour), End: end}, drift.DefaultLimits())
	for i := range 3 {
		r.History = append(r.History, PointOf(s, end.AddDate(0, 0, i-2)))
	}
	r.History[0].Partial = true
	return r
}
