package drift_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// TestMarkets measures drift from 28 days of training to the week after it, fold by fold, on the sets that are here. The
// reference study has 22 sets, with medians of 5.1 (raw mid), 1.56 (mean of mid, spread, vol and rsi) and 0.147 (v1.8.1
// overall), the last under 0.2 in 63 % of folds.
func TestMarkets(t *testing.T) {
	dir := os.Getenv("GREENLIGHT_DATA")
	if dir == "" {
		t.Skip("GREENLIGHT_DATA is not set")
	}
	sets := []struct {
		path   string
		symbol string
	}{
		{"btcperp-ftx-1m", ""},
		{"gbpusd-fxcm-1m-bidask", ""},
		{"btcusd-bitfinex-1m", ""},
		{"filusdt-binance-1m", ""},
		{"eurusd-quotes-2014-05/fxcm", "minute"},
		{"eurusd-quotes-2014-05/oanda", "minute"},
	}
	v181, _ := feature.Lookup("v1.8.1")
	raw := []string{"mid", "spread_bp", "vol1m", "rsi14"}
	plain, err := feature.NewSchema("raw", raw...)
	if err != nil {
		t.Fatal(err)
	}
	var mid, four, relative []float64
	verdicts := map[gate.Verdict]int{}
	for _, set := range sets {
		series, err := market.Read(filepath.Join(dir, set.path), market.ReadOptions{Symbol: set.symbol})
		if err != nil {
			t.Fatal(err)
		}
		frame, err := feature.Compute(series.Bars)
		if err != nil {
			t.Fatal(err)
		}
		var setMid, setRelative, setQ99 []float64
		for _, f := range folds(t, frame, plain, v181) {
			features, _ := f.psi(t, plain)
			setMid = append(setMid, features[0])
			four = append(four, (features[0]+features[1]+features[2]+features[3])/4)
			_, overall := f.psi(t, v181)
			setRelative = append(setRelative, overall.PSI)
			setQ99 = append(setQ99, overall.Q99)
			verdicts[overall.Verdict]++
		}
		mid, relative = append(mid, setMid...), append(relative, setRelative...)
		t.Logf("%-28s %2d folds: raw mid %.2f, v1.8.1 overall %.3f (null 99 %% %.3f)", set.path, len(setMid), median(setMid), median(setRelative), median(setQ99))
	}
	stable := 0
	for _, v := range relative {
		if v < 0.2 {
			stable++
		}
	}
	t.Logf("median of %d folds: raw mid %.2f, mean of four %.2f, v1.8.1 overall %.3f, under 0.2 in %.0f %%; %v",
		len(mid), median(mid), median(four), median(relative), 100*float64(stable)/float64(len(relative)), verdicts)
	if v := median(mid); !(v > 1) {
		t.Errorf("raw mid: median %v, want more than 1", v)
	}
	if v := median(relative); !(v < 0.3) {
		t.Errorf("v1.8.1 overall: median %v, want less than 0.3", v)
	}
}

func median(v []float64) float64 { return stats.Quantile(slices.Sorted(slices.Values(v)), 0.5) }

// fold is the training and test rows of one walk-forward step.
type fold struct {
	frame                     *feature.Frame
	training, test            []int
	trainingDays, testingDays []int
}

func folds(t *testing.T, frame *feature.Frame, schema, also *feature.Schema) []fold {
	t.Helper()
	d := train.NewDataset(frame, schema, also)
	windows, err := train.Folds(slices.Compact(slices.Clone(d.Day)), train.DefaultSplit())
	if err != nil {
		t.Fatal(err)
	}
	var out []fold
	for _, w := range windows {
		from, to := d.From(w.TrainFrom), d.From(w.TrainTo)-train.DefaultSplit().Purge
		testFrom, testTo := d.From(w.TestFrom), d.From(w.TestTo)
		out = append(out, fold{frame, d.Minute[from:to], d.Minute[testFrom:testTo], d.Day[from:to], d.Day[testFrom:testTo]})
	}
	return out
}

// psi is the index of each feature, and the overall reading.
func (f fold) psi(t *testing.T, s *feature.Schema) (features []float64, overall drift.Reading) {
	t.Helper()
	columns := make([]drift.Column, s.Len())
	for j, name := range s.Names() {
		columns[j].Name = name
		for _, minute := range f.training {
			columns[j].Values = append(columns[j].Values, f.frame.Column(name)[minute])
		}
	}
	p := profile(t, columns, f.trainingDays)
	c := drift.NewCounts(p)
	x := make([]float64, s.Len())
	for i, minute := range f.test {
		f.frame.Row(minute, s, x)
		c.Observe(f.testingDays[i], x)
	}
	snapshot, err := p.Snapshot(c, drift.NewNulls(p, 300, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	_, features = p.PSI(c)
	return features, snapshot.Overall
}
