package canary

import (
	"context"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// Source says what the executors have counted.
type Source interface {
	// Read returns the counters that could be read, and an error that names those that could not. Both may be there.
	Read(ctx context.Context) ([]Counters, error)
}

// Counters are what one executor has counted since its process started.
type Counters struct {
	// Executor names it: its address, or the labels of its series.
	Executor string
	// Process changes when the executor restarts. Two executors with one process are the same one.
	Process string
	// Instance is the executor's own id of its process; empty when the source does not know.
	Instance string
	// Start is when the process started, by its own clock; zero when the source does not know.
	Start time.Time
	// Time is by the clock of this process: the counts are at least as new.
	Time time.Time
	// Percent is the share of requests that gets a shadow, as the executor says.
	Percent float64
	// Requests are those that were accepted, Outcomes how their shadows ended, by the outcome's word.
	Requests uint64
	Outcomes map[string]uint64
	// Sources are the requests by where they came from; nil when the executor does not say.
	Sources evidence.Sources
	// Latency counts the shadows that were tried by the time until their end, in milliseconds: one more bucket than there
	// are upper Edges. Both are empty when the source has no histogram.
	Edges   []float64
	Latency []uint64
	// Baseline decided, Model answered last; empty when the source does not know, Model also until one answered.
	Baseline, Model evidence.Model
}

// compared is how many comparisons there were.
func (c Counters) compared() (n uint64) {
	for _, o := range shadow.Outcomes() {
		if o.Compared() {
			n += c.Outcomes[o.String()]
		}
	}
	return n
}
