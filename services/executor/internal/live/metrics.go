package live

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// tooManySymbols is the note of a quote for a symbol over the limit.
const tooManySymbols = "too_many_symbols"

// RegisterMetrics exports the counts of the book.
func (b *Book) RegisterMetrics(reg prometheus.Registerer) {
	f := promauto.With(reg)
	quotes := func(note string, count func() uint64) {
		f.NewCounterFunc(prometheus.CounterOpts{
			Name: "ml_feature_quotes_total", Help: "Quotes observed, by how they were handled.",
			ConstLabels: prometheus.Labels{"note": note},
		}, func() float64 { return float64(count()) })
	}
	for _, n := range feature.Notes() {
		quotes(n.String(), func() uint64 { return b.Count(n) })
	}
	quotes(tooManySymbols, b.tooMany.Load)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ml_feature_symbols", Help: "Symbols whose features are computed from quotes.",
	}, func() float64 { return float64(len(b.Symbols())) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ml_feature_symbols_locked", Help: "Symbols whose last 10 or more quotes were all ignored. /readyz names them.",
	}, func() float64 {
		locked, _ := b.blocked()
		return float64(len(locked))
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ml_feature_symbols_waiting", Help: "Symbols with a quote after a jump in time that waits for a confirming second quote.",
	}, func() float64 {
		_, waiting := b.blocked()
		return float64(len(waiting))
	})
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "ml_feature_symbol_resets_total", Help: "Symbols reset by an operator.",
	}, func() float64 { return float64(b.resets.Load()) })
}

// RegisterMetrics exports the failed saves.
func (k *Keeper) RegisterMetrics(reg prometheus.Registerer) {
	promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
		Name: "ml_feature_state_write_errors_total", Help: "Failed writes of the features to the state folder.",
	}, func() float64 { return float64(k.writeErrors.Load()) })
}
