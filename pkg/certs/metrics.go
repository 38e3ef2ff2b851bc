package certs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RegisterMetrics registers when the certificates end, and whether files were refused. A nil Store has no metrics: an end
// of 0 would look like one that is long past.
func (s *Store) RegisterMetrics(reg prometheus.Registerer) {
	if s == nil {
		return
	}
	end := prometheus.Labels{"end": s.end}
	notAfter := func(certificate string, of func(*material) time.Time) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "ml_tls_certificate_not_after_seconds",
			Help:        "When the certificate in use stops being valid, in seconds since 1970: the own one with its chain (own), the last of the authorities that sign the other end's (ca).",
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
			Name: "ml_tls_reload_errors_total", Help: "Certificate files that had changed and were refused; the old ones stayed in use.", ConstLabels: end,
		}, func() float64 { return float64(s.errors.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ml_tls_reload_failing", Help: "1 while the certificate files are not what is in use, because they were refused.", ConstLabels: end,
		}, func() float64 {
			if s.failing.Load() {
				return 1
			}
			return 0
		}),
	)
}
