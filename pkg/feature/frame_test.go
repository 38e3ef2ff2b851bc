package feature

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

func TestFrame(t *testing.T) {
	bar := func(start int64, low, high float64) market.Bar {
		mid := (low + high) / 2
		return market.Bar{Start: start, Open: mid, High: high, Low: low, Close: mid, Bid: mid - 0.5, Ask: mid + 0.5}
	}
	last := int64(dayMS - market.MinuteMS) // the last minute of 1970-01-01
	f, err := Compute([]market.Bar{bar(last, 99, 101), bar(last+2*market.MinuteMS, 109, 111)})
	if err != nil {
		t.Fatal(err)
	}
	if f.Len() != 3 {
		t.Fatalf("got %d minutes, want 3", f.Len())
	}
	tests := []struct {
		name           string
		end            int64
		day            int
		mid, high, low float64
		spread         float64
	}{
		{"the decision at midnight belongs to the old day", dayMS, 0, 100, 101, 99, 100},
		{"a filled minute repeats the last quote", dayMS + market.MinuteMS, 1, 100, 100, 100, 100},
		{"the minute after it", dayMS + 2*market.MinuteMS, 1, 110, 111, 109, 1e4 / 110.0},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if f.End(i) != tt.end || f.Day(i) != tt.day {
				t.Errorf("got end %d, day %d", f.End(i), f.Day(i))
			}
			if f.Column("mid")[i] != tt.mid || f.High()[i] != tt.high || f.Low()[i] != tt.low || !same(f.Column("spread_bp")[i], tt.spread) {
				t.Errorf("got mid %v, high %v, low %v, spread %v", f.Column("mid")[i], f.High()[i], f.Low()[i], f.Column("spread_bp")[i])
			}
		})
	}
	if f.Column("nonsense") != nil {
		t.Error("there is a column of nonsense")
	}
	for _, d := range Catalogue() {
		if got := len(f.Column(d.Name)); got != 3 {
			t.Errorf("%s has %d values, want 3", d.Name, got)
		}
	}
}

func TestComputeOfNothing(t *testing.T) {
	f, err := Compute(nil)
	if err != nil || f.Len() != 0 {
		t.Errorf("got %d minutes, %v", f.Len(), err)
	}
}
