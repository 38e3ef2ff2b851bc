package live

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// tooManySymbols is the note of a quote that the book has no room for.
const tooManySymbols = "too_many_symbols"

// RegisterMetrics exports what the book counts.
func (b *Book) RegisterMetrics(reg prometheus.Registerer) {
	f := promauto.With(reg)
	quotes := func(note string, count func() uint64) {
		f.NewCounterFunc(prometheus.CounterOpts{
			Name: "ml_feature_quotes_total", Help: "Quotes that were observed, by what became of them.",
			ConstLabels: prometheus.Labels{"note": note},
		}, func() float64 { return float64(count()) })
	}
	for _, n := range feature.Notes() {
		quotes(n.String(), func() uint64 { return b.Count(n) })
	}
	quotes(tooManySymbols, b.crowded.Load)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ml_feature_symbols", Help: "Symbols whose features are computed from quotes.",
	}, func() float64 { return float64(len(b.Symbols())) })
}

// RegisterMetrics exports what the keeper could not save.
func (k *Keeper) RegisterMetrics(reg prometheus.Registerer) {
	promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
		Name: "ml_feature_state_write_errors_total", Help: "Times that the features of the symbols could not be saved.",
	}, func() float64 { return float64(k.writeErrors.Load()) })
}
