package driftcompare

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// simulated is a market of 20 days, built once. It must not be changed.
var simulated = sync.OnceValues(func() (*experiment.Data, error) {
	return experiment.Simulate(market.SimulateOptions{Seed: 3, Days: 20})
})

func data(t *testing.T) *experiment.Data {
	t.Helper()
	d, err := simulated()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func schema(t *testing.T, name string) *feature.Schema {
	t.Helper()
	s, ok := feature.Lookup(name)
	if !ok {
		t.Fatalf("no schema %s", name)
	}
	return s
}

// whole returns the rows of the simulated market: 19 days, because the first is warm-up.
func whole(t *testing.T) *Set {
	t.Helper()
	s, err := FromMarket(data(t), schema(t, "v1.8.1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// compare compares two sets without the classifier.
func compare(t *testing.T, reference, current *Set) *Report {
	t.Helper()
	o := DefaultOptions()
	o.Classifier = twosample.Options{}
	r, err := Compare(reference, current, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// logged writes a feature log of the simulated market with a request per minute. Requests of odd minutes have no event
// time. Minutes with undefined features are logged without features.
func logged(t *testing.T, symbol string, schemas ...string) string {
	t.Helper()
	dir := t.TempDir()
	l, err := featurelog.Open(featurelog.Options{Dir: dir, Capacity: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	frame, err := feature.Compute(data(t).Bars)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range schemas {
		f := schema(t, name)
		s, err := featurelog.NewSchema(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range frame.Len() {
			x := make([]float64, f.Len())
			if !frame.Row(i, f, x) {
				x = nil
			}
			at := time.UnixMilli(frame.End(i)).UTC()
			row := featurelog.Row{Symbol: symbol, ArrivalTime: at, Schema: s, Features: x, BaselineScore: math.NaN()}
			if i%2 == 0 {
				row.EventTime = at
			}
			if symbol != "SIM-PERP" {
				row.Source = "live"
			}
			l.Log(row)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}
