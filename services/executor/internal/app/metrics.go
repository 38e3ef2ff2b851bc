package app

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// registerRollout exports the share of requests that get a shadow, and the mode.
func registerRollout(reg prometheus.Registerer, percent float64) {
	f := promauto.With(reg)
	f.NewGauge(prometheus.GaugeOpts{
		Name: "ml_rollout_percent", Help: "Share of the requests that get a shadow, in percent.",
	}).Set(percent)
	mode := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ml_rollout_mode", Help: "1 for the mode of the rollout, 0 for the others.",
	}, []string{"mode"})
	mode.WithLabelValues("off").Set(telemetry.Bool(percent == 0))
	mode.WithLabelValues("observe_only").Set(telemetry.Bool(percent > 0))
}
