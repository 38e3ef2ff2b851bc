package retrain

import (
	"sync"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

const marketDays = 24

// simulated is a market of marketDays days, made once: it must not be changed.
var simulated = sync.OnceValues(func() (*experiment.Data, error) {
	return experiment.Simulate(market.SimulateOptions{Seed: 3, Days: marketDays})
})

func data(t *testing.T) *experiment.Data {
	t.Helper()
	d, err := simulated()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// with is the data with other bars.
func with(d *experiment.Data, bars []market.Bar) *experiment.Data {
	series := *d.Series
	series.Bars = bars
	return experiment.NewData(&series, d.Name)
}

func population(t *testing.T, d *experiment.Data) *Population {
	t.Helper()
	p, err := NewPopulation(d, "v1.8.1")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
