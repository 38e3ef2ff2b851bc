package retrain

import (
	"sync"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

const marketDays = 24

// simulated is a market of marketDays days, built once. It must not be changed.
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

// with returns the data with other bars.
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

func TestNextCandidate(t *testing.T) {
	for _, tt := range []struct {
		name     string
		versions []string
		want     string
	}{
		{"empty registry", nil, "v1.8.1-rc1"},
		{"one", []string{"v1.8.1-rc1"}, "v1.8.1-rc2"},
		{"the highest counts, as a number", []string{"v1.8.1-rc9", "v1.8.1-rc10", "v1.8.1-rc2"}, "v1.8.1-rc11"},
		{"a hole is not filled", []string{"v1.8.1-rc3"}, "v1.8.1-rc4"},
		{"other schemas do not count", []string{"v1.8-rc7", "v1.8.10-rc7", "v1.8-b0"}, "v1.8.1-rc1"},
		{"names that look alike do not count", []string{"v1.8.1-rc07", "v1.8.1-rc8-x", "v1.8.1-rc-9", "v1.8.1-rc", "v1.8.1-rc+9"}, "v1.8.1-rc1"},
	} {
		entries := []model.Entry{{Name: "another", Version: "v1.8.1-rc99"}}
		for _, v := range tt.versions {
			entries = append(entries, model.Entry{Name: "market", Version: v})
		}
		if got := NextCandidate(entries, "market", "v1.8.1"); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestNewest(t *testing.T) {
	whole := data(t)
	for _, tt := range []struct{ days, want int }{{0, marketDays}, {1, 1}, {7, 7}, {marketDays, marketDays}, {100, marketDays}} {
		got := Newest(whole, tt.days)
		seen := map[int64]bool{}
		for _, b := range got.Bars {
			seen[b.Start/dayMS] = true
		}
		if len(seen) != tt.want || got.Bars[len(got.Bars)-1] != whole.Bars[len(whole.Bars)-1] || got.Digest() != whole.Digest() {
			t.Errorf("newest %d: %d days, want %d with the last bar and the digest of all data", tt.days, len(seen), tt.want)
		}
	}
}
