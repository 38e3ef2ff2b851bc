package driftcompare

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
)

// logOf writes a feature log of the given number of days. Two features that are independent in the reference move together
// starting on the day turn, but neither of them has moved by itself.
func logOf(t *testing.T, seed uint64, first time.Time, days, turn int) string {
	t.Helper()
	dir := t.TempDir()
	l, err := featurelog.Open(featurelog.Options{Dir: dir, Capacity: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	schema, _ := feature.Lookup(feature.DefaultSchema)
	s, err := featurelog.NewSchema(schema)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for day := range days {
		for i := range 100 {
			x := make([]float64, schema.Len())
			for j := range x {
				x[j] = rng.NormFloat64()
			}
			x[0] = 1
			if day >= turn {
				x[2] = 0.9*x[1] + 0.436*x[2]
			}
			at := first.AddDate(0, 0, day).Add(time.Duration(1+i) * time.Minute)
			l.Log(featurelog.Row{Symbol: "S", ArrivalTime: at, EventTime: at, Schema: s, Features: x})
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The classifier compares the 7 days before the end. Days before the turn are like the reference, days after it are not. Too
// few days are INCONCLUSIVE. A missing log is an ERROR with the reason.
func TestRecent(t *testing.T) {
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	reference, log := logOf(t, 1, start.AddDate(0, 0, -30), 10, 10), logOf(t, 2, start, 14, 7)
	tests := []struct {
		name, log string
		day       int
		want      gate.Verdict
		reason    string
	}{
		{"before the turn", log, 6, gate.Pass, ""},
		{"after the turn", log, 13, gate.Fail, "it leans on"},
		{"too few days", log, 2, gate.Inconclusive, "10 days of reference and 3 of the present"},
		{"no log", log + "-not", 6, gate.Error, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			schema, _ := feature.Lookup(feature.DefaultSchema)
			recent := Recent{Log: featurelog.Log{Dir: tt.log}, Schema: schema, Options: twosample.DefaultOptions()}
			recent.Reference = func() (*Set, error) { return FromLog(featurelog.Log{Dir: reference}, "", schema, nil) }
			recent.Options.MaxRows, recent.Options.Permutations = 200, 100
			r, inputs := recent.Classify(start.AddDate(0, 0, tt.day+1))
			if r.Verdict != tt.want || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("%s: %s, want %s: %s", r.Verdict, r.Reason, tt.want, tt.reason)
			}
			if len(inputs) < 10 {
				t.Errorf("%d inputs, want the files of the reference and of the log", len(inputs))
			}
		})
	}
}
