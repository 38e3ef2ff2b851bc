package driftcompare

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/study"
)

func TestScratch(t *testing.T) {
	dir := os.Getenv("GREENLIGHT_DATA")
	if dir == "" {
		t.Skip("GREENLIGHT_DATA is not set: no market data to test with")
	}
	schema, _ := feature.Lookup("v1.8.1")
	for _, set := range []struct {
		path, symbol    string
		reference, next int
	}{
		{"btcusd-bitfinex-1m", "", 28, 7},
		{"filusdt-binance-1m", "", 28, 7},
		{"btcperp-ftx-1m", "", 28, 7},
		{"btcperp-ftx-1m", "", 21, 7},
		{"gbpusd-fxcm-1m-bidask", "", 28, 7},
		{"gbpusd-fxcm-1m-bidask", "", 14, 7},
		{"eurusd-quotes-2014-05/fxcm", "minute", 7, 5},
		{"eurusd-quotes-2014-05/oanda", "minute", 7, 5},
	} {
		data, err := study.Read(filepath.Join(dir, set.path), market.ReadOptions{Symbol: set.symbol})
		if err != nil {
			t.Fatal(err)
		}
		all, err := FromMarket(data, schema, nil)
		if err != nil {
			t.Fatal(err)
		}
		reference, rest := all.Split(set.reference)
		present, _ := rest.Split(set.next)
		r, err := Compare(reference, present, DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %d/%d: %s\n%s | %s", set.path, r.Reference.Days, r.Current.Days, r.Line(), r.Verdict, r.Reason)
		for _, f := range r.Features {
			t.Logf("   %-18s %-8s %.3f q99 %.3f p %.3f eff %.0f %s", f.Feature, f.Role, f.PSI, f.Q99, *f.P, f.Effective, f.Verdict)
		}
		whole, _ := Compare(reference, rest, DefaultOptions())
		n, below, fail, midmin, midabove := 0, 0, 0, 100.0, 0
		for _, p := range whole.History {
			n++
			if p.Overall < 0.2 {
				below++
			}
			if p.Verdict == "FAIL" {
				fail++
			}
			midmin = min(midmin, p.Features["mid"])
			if p.Features["mid"] > 1 {
				midabove++
			}
		}
		t.Logf("   rolling %d, below %d, fail %d, mid min %.2f, above 1 in %d", n, below, fail, midmin, midabove)
	}
}
