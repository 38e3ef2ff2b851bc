package page

import (
	"testing"
	"time"
)

// BenchmarkPublish is what it costs to make a status and to hand it to ten viewers, which happens once a second: less the
// writing to their connections. `make bench-page` measures all of it, on the running program.
func BenchmarkPublish(b *testing.B) {
	p := newWorld(b).start()
	h := p.hub
	_ = p.Stop(b.Context()) // the benchmark publishes, not the clock
	for range 10 {
		h.viewers[make(chan []byte, 1)] = struct{}{}
	}
	b.ReportAllocs()
	for b.Loop() {
		h.publish(b.Context())
	}
	b.ReportMetric(100*float64(b.Elapsed())/float64(b.N)/float64(time.Second), "%_of_a_core")
}
