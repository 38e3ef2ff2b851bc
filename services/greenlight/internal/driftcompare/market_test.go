package driftcompare

import (
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// TestMarkets shows why the features of v1.8.1 are relative: in the week after training the price leaves its range, but the
// features do not. The PSI stays below its threshold and its null quantile. This also holds for FIL/USDT, where a tick is 3
// basis points wide and the bins follow the steps of the price.
func TestMarkets(t *testing.T) {
	dir := need.Data(t)
	sets := []struct {
		path string
		// reference is the number of reference days; BTC-PERP has only 31 days.
		reference int
	}{
		{"btcusd-bitfinex-1m", 28},
		{"btcperp-ftx-1m", 21},
		{"filusdt-binance-1m", 28},
	}
	for _, set := range sets {
		t.Run(set.path, func(t *testing.T) {
			d, err := experiment.Read(filepath.Join(dir, set.path), marketfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			all, err := FromMarket(d, schema(t, "v1.8.1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			reference, rest := all.Split(set.reference)
			current, _ := rest.Split(7)
			r := compare(t, reference, current)
			var mid drift.FeatureReading
			for _, f := range r.Features {
				if f.Feature == "mid" {
					mid = f
				}
			}
			t.Logf("%d days, then %d: raw mid %.3f (null 99 %% %.3f), v1.8.1 overall %.3f (null 99 %% %.3f): %s",
				r.Reference.Days, r.Current.Days, mid.PSI, mid.Q99, r.Overall.PSI, r.Overall.Q99, r.Overall.Verdict)
			if !(mid.PSI > 1) {
				t.Errorf("raw mid %v, want more than 1", mid.PSI)
			}
			if o := r.Overall; o.Verdict != gate.Pass || !(o.PSI < 0.2 && o.PSI < o.Q99) {
				t.Errorf("overall %v with null 99 %% %v is %s, want PASS below 0.2 and below the null", o.PSI, o.Q99, o.Verdict)
			}
			if !(r.Overall.PSI < mid.PSI/10) {
				t.Errorf("overall %v, want less than a tenth of raw mid, %v", r.Overall.PSI, mid.PSI)
			}
		})
	}
}
