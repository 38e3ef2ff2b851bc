package page

import (
	"testing"
	"time"
)

// BenchmarkPublish is what ten viewers cost the executor each second, less the writing: its "% of a core" is the most
// that they can take of the throughput.
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
