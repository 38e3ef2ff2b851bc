package canary

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Source reads what the executors have counted.
type Source interface {
	// Read returns the counters that could be read, and an error that names those that could not. Both may be set.
	Read(ctx context.Context) ([]fleet.Counters, error)
}

// Reports is the source that reads the executors' own reports.
type Reports []fleet.Executor

// Read implements [Source].
func (r Reports) Read(ctx context.Context) ([]fleet.Counters, error) {
	all, errs := fleet.ReadCounters(ctx, r)
	fleet.Rethrow(errs...)
	return all, errors.Join(errs...)
}

// SourceOf returns the source of a plan's counts; nil asks the executors.
func SourceOf(p *Plan) (Source, error) {
	if p.URL == "" {
		return nil, nil //nolint:nilnil // nil is a valid result
	}
	return fleet.NewPrometheus(p.PrometheusOptions, len(p.Executors))
}

// callTimeout bounds the call to Prometheus before a run.
const callTimeout = 3 * time.Second

// Readable returns an error if the counts cannot be read now. A canary would then hold its first phase, and stop.
func Readable(ctx context.Context, p *Plan) error {
	source, err := SourceOf(p)
	if source == nil || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := source.Read(ctx); err != nil {
		return fmt.Errorf("%w: %s", errNoMetrics, fleet.OneLine(err))
	}
	return nil
}

// counts are the counts that a phase is judged by.
type counts struct {
	fleet.Sum

	phase gate.PhaseCounts
	// wrong names the counts that do not add up.
	wrong []string
}

// maxUntimed bounds the shadows without a latency: at most one in maxUntimed. Those may be the slowest, and the p95 is about
// the slowest one in twenty.
const maxUntimed = 40

// countsOf returns the counts of a phase at the given percentage of requests. At 100 %, up to the fraction unsampled of the
// requests, in [0,1], may have no shadow.
func countsOf(sum fleet.Sum, percent, unsampled float64) counts {
	c := counts{Sum: sum, phase: sum.Phase()}
	c.phase.P95Missing = sum.LatencyMissing
	if c.Outcomes == nil {
		c.Outcomes = make(map[string]uint64)
	}
	if ended := c.Ended(); !fleet.Accounted(c.Requests, ended) {
		c.wrong = append(c.wrong, fmt.Sprintf("there were %d requests and %d outcomes", c.Requests, ended))
	}
	if n := c.Of(shadow.NotSampled); percent == 100 && float64(n) > unsampled*float64(c.Requests) {
		c.wrong = append(c.wrong, fmt.Sprintf("%d requests were not sampled at 100 %%", n))
	}
	if c.phase.P95Missing == "" {
		c.phase.P95MS, c.phase.P95Missing = P95(c.Latency, c.phase.Tried())
	}
	return c
}

// P95 returns the time within which 95 % of the tried shadows ended, in milliseconds; NaN without any. Shadows without a
// latency count as the slowest. If there are too many of them, the p95 is unknown and missing is the reason.
func P95(latency fleet.Histogram, tried uint64) (ms float64, missing string) {
	timed := latency.Total()
	untimed := tried - min(timed, tried)
	if !fleet.Accounted(timed, tried) || untimed > tried/maxUntimed {
		return math.NaN(), fmt.Sprintf("there are %d latencies for %d shadows", timed, tried)
	}
	latency.Counts = slices.Clone(latency.Counts)
	if n := len(latency.Counts); n > 0 {
		latency.Counts[n-1] += untimed
	}
	return latency.Quantile(0.95), ""
}
