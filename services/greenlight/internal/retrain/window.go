package retrain

import (
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

const dayMS = 24 * 60 * market.MinuteMS

// Newest is the data of the newest UTC days that have bars: so many of them, or all when days is 0. Its files stay those
// that were read. The first day of what is left serves to warm the features up and has no rows of its own.
func Newest(data *experiment.Data, days int) *experiment.Data {
	if days <= 0 {
		return data
	}
	bars := data.Raw
	seen, last := 0, int64(-1)
	for i := len(bars) - 1; i >= 0; i-- {
		if day := bars[i].Start / dayMS; day != last {
			seen, last = seen+1, day
		}
		if seen > days {
			bars = bars[i+1:]
			break
		}
	}
	series := *data.Series
	series.Bars = slices.Clone(bars)
	return experiment.NewData(&series, data.Name)
}
