package telemetry

import (
	"net/http"

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

// maxGathers is how many requests for metrics are worked on at once. One takes some hundred kilobytes while the metrics are
// gathered and encoded, which a thousand connections could make a server keep all together.
const maxGathers = 4

// MetricsHandler serves the registry in the Prometheus exposition format.
func MetricsHandler(reg *prometheus.Registry) http.Handler {
	return oneAfterAnother(promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg, EnableOpenMetrics: true}), maxGathers)
}

// oneAfterAnother lets at most n requests in at once; the others wait. A client that does not read its answer keeps nobody
// out: the answer is whole before it is sent.
func oneAfterAnother(next http.Handler, n int) http.Handler {
	places := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		whole := answer{header: w.Header(), code: http.StatusOK}
		func() {
			defer func() { <-places }()
			next.ServeHTTP(&whole, r)
		}()
		w.WriteHeader(whole.code)
		_, _ = w.Write(whole.body)
	})
}

// answer is a http.ResponseWriter that keeps what is written.
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
