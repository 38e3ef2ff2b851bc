// Package telemetry provides monitoring for both services: a metrics registry, bucket edges, logging and tracing.
package telemetry

import (
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry with the metrics of the Go runtime, of the process and of the program's build.
func NewRegistry(program string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	registerBuild(reg, program)
	return reg
}

// Series returns a registerer for the series of a shadow. For the model under trial, whose challenger is empty, names begin with
// ml_shadow_. For a challenger they begin with ml_challenger_ and have the label challenger.
func Series(reg prometheus.Registerer, challenger string) prometheus.Registerer {
	if challenger == "" {
		return prometheus.WrapRegistererWithPrefix("ml_shadow_", reg)
	}
	return prometheus.WrapRegistererWithPrefix("ml_challenger_", prometheus.WrapRegistererWith(prometheus.Labels{"challenger": challenger}, reg))
}

// maxGathers is how many requests for metrics are handled concurrently. Gathering and encoding takes some hundred kilobytes per
// request, which a thousand connections could multiply.
const maxGathers = 4

// MetricsHandler serves the registry in the Prometheus exposition format.
func MetricsHandler(reg *prometheus.Registry) http.Handler {
	return oneAfterAnother(promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg, EnableOpenMetrics: true}), maxGathers)
}

// oneAfterAnother handles at most n requests concurrently; the others wait. A response is complete before it is sent, so a client
// that does not read it blocks no one else.
func oneAfterAnother(next http.Handler, n int) http.Handler {
	slots := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		whole := answer{header: w.Header(), code: http.StatusOK}
		func() {
			defer func() { <-slots }()
			next.ServeHTTP(&whole, r)
		}()
		w.WriteHeader(whole.code)
		_, _ = w.Write(whole.body)
	})
}

// answer is an http.ResponseWriter that buffers what is written.
type answer struct {
	header http.Header
	code   int
	body   []byte
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write implements io.Writer.
func (a *answer) Write(b []byte) (int, error) {
	a.body = append(a.body, b...)
	return len(b), nil
}

// LatencyBucketsMS are the edges of every latency histogram, in milliseconds. 1, 60 (the shadow's limit), 80 (the SLO) and
// 120 (the canary's abort) are exact edges, so that the share beyond a limit needs no interpolation. Below 1 ms, where most
// latencies are, the edges are dense.
var LatencyBucketsMS = []float64{
	.01, .02, .05, .1, .15, .2, .3, .4, .5, .75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 250,
	500, 1000,
}

// LatencyMS returns the options of a latency histogram. A scraper that asks for native histograms also gets 10 % buckets, at
// most 160 of them: beyond that, neighbours are merged without losing counts.
func LatencyMS(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: LatencyBucketsMS, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}
}

// Milliseconds returns d as a number of milliseconds.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Bool returns 1 for true and 0 for false.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Sink receives the values of one scrape.
type Sink chan<- prometheus.Metric

// Counter sends a count.
func (s Sink) Counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// Gauge sends a value.
func (s Sink) Gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// Rate sends k/n as a value, NaN if n is 0.
func (s Sink) Rate(d *prometheus.Desc, k, n uint64) {
	v := math.NaN()
	if n > 0 {
		v = float64(k) / float64(n)
	}
	s.Gauge(d, v)
}
