package feature

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// TestRollingVectors compares with numpy to 1e-9: see testdata/rolling.py.
func TestRollingVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/rolling.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Origin string
		Price  []float64
		Rows   []map[string]*float64
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Rows) < 20 {
		t.Fatalf("%d rows: the vectors are missing", len(want.Rows))
	}
	e, next := NewBuilder(), 0
	for i, p := range want.Price {
		if err := e.Push(market.Bar{Start: int64(i) * market.MinuteMS, Open: p, High: p, Low: p, Close: p}); err != nil {
			t.Fatal(err)
		}
		if next == len(want.Rows) || *want.Rows[next]["i"] != float64(i) {
			continue
		}
		for _, name := range []string{"rsi14", "vol1m", "mid_logret_5m", "rsi14_z", "zscore_mid_24h"} {
			got, ref := e.Value(name), want.Rows[next][name]
			switch {
			case ref == nil && !math.IsNaN(got):
				t.Errorf("minute %d, %s: got %v, want undefined", i, name, got)
			case ref != nil && !(math.Abs(got-*ref) <= 1e-9*math.Max(1, math.Abs(*ref))):
				t.Errorf("minute %d, %s: got %v, want %v", i, name, got, *ref)
			}
		}
		next++
	}
	if next != len(want.Rows) {
		t.Errorf("compared %d of %d rows", next, len(want.Rows))
	}
}
