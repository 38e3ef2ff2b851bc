package page

import (
	"testing"
	"time"
)

// BenchmarkPublish measures making a status and sending it to ten viewers, which happens once a second, without writing to
// their connections. `make bench-page` measures all of it on the running program.
func BenchmarkPublish(b *testing.B) {
	p := newWorld(b).start()
	h := p.hub
	_ = p.Stop(b.Context()) // the benchmark publishes, not the hub
	for range 10 {
		h.viewers[make(chan []byte, 1)] = struct{}{}
	}
	b.ReportAllocs()
	for b.Loop() {
		h.publish(b.Context())
	}
	b.ReportMetric(100*float64(b.Elapsed())/float64(b.N)/float64(time.Second), "%_of_a_core")
}
