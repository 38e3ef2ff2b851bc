package featurelog

import (
	"io"
	"testing"
	"time"
)

func BenchmarkLog(b *testing.B) {
	s := schema(b, "v1.8.1")
	r := sample(s, 1, time.Now())
	nowhere := func(_ string, write func(io.Writer, bool) error) (io.Closer, error) {
		return nil, write(io.Discard, true)
	}
	for _, pace := range []string{"full-speed", "paced"} {
		b.Run(pace, func(b *testing.B) {
			l := start(b, Options{Dir: b.TempDir(), Interval: 50 * time.Millisecond}, nowhere)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				l.Log(r)
				if i++; pace == "paced" && i%10_000 == 0 { // no faster than the writer
					b.StopTimer()
					for l.Stats().Pending > 0 {
						time.Sleep(time.Millisecond)
					}
					b.StartTimer()
				}
			}
			b.StopTimer()
			stop(b, l)
			b.ReportMetric(float64(l.Stats().Dropped)/float64(i), "dropped/op")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	s := schema(b, "v1.8.1")
	rows := make([]*Row, DefaultPartRows)
	for i := range rows {
		r := sample(s, i, time.Now())
		rows[i] = &r
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		var size counter
		if err := encode(&size, s, rows, true); err != nil {
			b.Fatal(err)
		}
		n = int(size)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/row")
	b.ReportMetric(float64(n)/float64(len(rows)), "bytes/row")
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
