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
			Name: "ml_feature_quotes_total", Help: "Quotes that were observed, by how they were judged.",
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
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ml_feature_symbols_locked", Help: "Symbols of which the last 10 quotes or more were all left out. /readyz names them.",
	}, func() float64 {
		locked, _ := b.held()
		return float64(len(locked))
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ml_feature_symbols_waiting", Help: "Symbols with a quote after a jump in time that waits for a second one that agrees.",
	}, func() float64 {
		_, waiting := b.held()
		return float64(len(waiting))
	})
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "ml_feature_symbol_resets_total", Help: "Symbols that an operator has reset.",
	}, func() float64 { return float64(b.resets.Load()) })
}

// RegisterMetrics exports what the keeper could not save.
func (k *Keeper) RegisterMetrics(reg prometheus.Registerer) {
	promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
		Name: "ml_feature_state_write_errors_total", Help: "Times that the features of the symbols could not be saved.",
	}, func() float64 { return float64(k.writeErrors.Load()) })
}
