package train_test

import (
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// After a hole of more than 14 days, rows come back when no window of a feature spans it; a week-end costs no row but those
// that the features themselves leave out.
func TestDatasetLeavesOutRowsThatSpanAHole(t *testing.T) {
	sim, err := market.Simulate(market.SimulateOptions{Seed: 2, Days: 26})
	if err != nil {
		t.Fatal(err)
	}
	bars := sim.Series().Bars
	schema, _ := feature.Lookup("v1.8")
	for _, tt := range []struct {
		name       string
		days, want int
	}{{"2 days", 2, 120}, {"15 days", 15, 1440}} {
		from, to := 5*1440, (5+tt.days)*1440
		frame, err := feature.Compute(slices.Delete(slices.Clone(bars), from, to))
		if err != nil {
			t.Fatal(err)
		}
		d := train.NewDataset(frame, schema)
		first := slices.IndexFunc(d.Minute, func(m int) bool { return m >= from })
		if first < 0 {
			t.Fatalf("%s: no row after the hole", tt.name)
		}
		if got := d.Minute[first] - from; got > tt.want || tt.days > 14 && got < tt.want {
			t.Errorf("%s: the first row is %d minutes after the hole, want %d", tt.name, got, tt.want)
		}
	}
}
