package certs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// RegisterMetrics registers metrics for the certificates' expiry and for refused files. A nil Store has no metrics, since an
// expiry of 0 would look like an expired certificate.
func (s *Store) RegisterMetrics(reg prometheus.Registerer) {
	if s == nil {
		return
	}
	end := prometheus.Labels{"end": s.end}
	notAfter := func(certificate string, of func(*material) time.Time) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "ml_tls_certificate_not_after_seconds",
			Help:        "When the certificate in use expires, in seconds since 1970: this end's certificate with its chain (own), or the last CA for the peer (ca).",
			ConstLabels: prometheus.Labels{"end": s.end, "certificate": certificate},
		}, func() float64 { return float64(of(s.current.Load()).Unix()) })
	}
	if s.files.Cert != "" {
		reg.MustRegister(notAfter("own", func(m *material) time.Time { return m.own.to }))
	}
	if s.files.CA != "" {
		reg.MustRegister(notAfter("ca", func(m *material) time.Time { return m.trusted.to }))
	}
	reg.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ml_tls_reload_errors_total", Help: "Changed certificate files that were refused; the old ones stay in use.", ConstLabels: end,
		}, func() float64 { return float64(s.errors.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ml_tls_reload_failing", Help: "1 while changed certificate files are refused and the old ones are in use.", ConstLabels: end,
		}, func() float64 { return telemetry.Bool(s.failing.Load()) }),
	)
}
