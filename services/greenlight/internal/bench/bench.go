package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/load"
)

// What is measured.
const (
	manyUnderWay = 16   // calls of the closed loop that saturates
	calmShare    = 0.30 // of saturation: the rate of the open loop
	busyShare    = 0.70 // of saturation: up to here nothing may be shed
	batchRows    = 1024
	batchCalls   = 4 // batches under way
)

// Options configures [Run].
type Options struct {
	// Bin is the folder of the programs ml-engine and executor; Self is this program, which is the echo server.
	Bin, Self string
	// Dir gets the servers' logs. Models is a registry folder that has Artifact.
	Dir, Models string
	Artifact    *model.Artifact
	// States are what is sent. They must be of Artifact, whose schema has the inputs of its baseline.
	States []load.State
	// Rounds is how often everything is measured, Segment how long each time, after WarmUp.
	Rounds          int
	Segment, WarmUp time.Duration
	// Progress, which may be nil, is told of the segments done.
	Progress func(done, total int)
}

// DefaultOptions measure for about four and a half minutes.
func DefaultOptions() Options {
	return Options{Rounds: 7, Segment: 1900 * time.Millisecond, WarmUp: 200 * time.Millisecond}
}

// QuickOptions measure for about a minute.
func QuickOptions() Options {
	return Options{Rounds: 5, Segment: 500 * time.Millisecond, WarmUp: 100 * time.Millisecond}
}

// closedModes are the calls under way in the closed loops.
var closedModes = []int{1, manyUnderWay}

// run is a measurement on its way: samples by what they are of, one per round.
type run struct {
	opts    Options
	fleet   *fleet
	done    int
	samples map[key][]sample
	sheds   []float64 // per round of the busy open loop
}

// key says what a sample is of.
type key struct {
	side     string
	underWay int     // of a closed loop, or 0
	share    float64 // of saturation, of an open loop
}

func closedKey(side string, underWay int) key { return key{side: side, underWay: underWay} }
func calm(side string) key                    { return key{side: side, share: calmShare} }

var (
	busyKey  = key{side: shadowOn, share: busyShare}
	batchKey = closedKey("ml-engine, batches", batchCalls)
)

// Run measures everything and returns the rows of the table.
func Run(ctx context.Context, opts Options) (_ *Result, err error) {
	if opts.Rounds < 1 || opts.Segment <= 0 || len(opts.States) == 0 {
		return nil, errors.New("bench: rounds, segment and states are required")
	}
	began, watch := time.Now(), watchMachine()
	f, err := startFleet(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	r := &run{opts: opts, fleet: f, samples: map[key][]sample{}}
	for _, phase := range []func(context.Context, int) error{r.closed, r.calm, r.busy, r.batch} {
		for round := range opts.Rounds {
			if err := phase(ctx, round); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range []string{shadowOff, shadowOn} {
		if _, err := f.sides[name].settle(ctx); err != nil {
			return nil, err
		}
	}
	result := r.result()
	result.Machine = watch.machine(f)
	result.Time, result.DurationS = began.UTC(), time.Since(began).Seconds()
	return result, nil
}

// closed measures all sides in closed loops.
func (r *run) closed(ctx context.Context, round int) error {
	for _, underWay := range closedModes {
		for _, name := range order(round, echoScoring, engineSide, echoDecision, shadowOff, shadowOn) {
			err := r.take(closedKey(name, underWay), func() (sample, error) {
				return r.fleet.sides[name].closed(ctx, underWay, r.span())
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// calm measures all sides in open loops, each pair at the same rate: a share of what its reference can do.
func (r *run) calm(ctx context.Context, round int) error {
	for _, name := range order(round, echoScoring, engineSide, echoDecision, shadowOn, shadowOff, shadowHung) {
		reference := shadowOff
		if name == echoScoring || name == engineSide {
			reference = echoScoring
		}
		rate := calmShare * r.saturation(reference)
		err := r.take(calm(name), func() (sample, error) {
			if name == shadowHung {
				return r.fleet.hung(ctx, round, rate)
			}
			return r.fleet.sides[name].open(ctx, rate, uint64(round), r.span())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// busy loads the executor with its shadow up to where nothing may be shed.
func (r *run) busy(ctx context.Context, round int) error {
	s := r.fleet.sides[shadowOn]
	before, err := s.settle(ctx)
	if err != nil {
		return err
	}
	err = r.take(busyKey, func() (sample, error) {
		return s.open(ctx, busyShare*r.saturation(shadowOn), uint64(round), r.span())
	})
	if err != nil {
		return err
	}
	after, err := s.settle(ctx)
	if err != nil {
		return err
	}
	const shed = executorv1.ShadowOutcome_SHADOW_OUTCOME_SHED
	r.sheds = append(r.sheds, float64(after[shed]-before[shed]))
	return nil
}

func (r *run) batch(ctx context.Context, _ int) error {
	return r.take(batchKey, func() (sample, error) { return r.fleet.batch.closed(ctx, batchCalls, r.span()) })
}

// saturation is what the side answers per second with many calls under way.
func (r *run) saturation(side string) float64 {
	return spreadOf(measures(r.samples[closedKey(side, manyUnderWay)], sample.throughput)).Median
}

func (r *run) span() span { return span{warm: r.opts.WarmUp, length: r.opts.Segment} }

// take measures one segment.
func (r *run) take(k key, measure func() (sample, error)) error {
	s, err := measure()
	if err != nil {
		return err
	}
	if s.calls == 0 {
		return fmt.Errorf("%s: no call was answered within a segment", k.side)
	}
	r.samples[k] = append(r.samples[k], s)
	r.done++
	if r.opts.Progress != nil {
		r.opts.Progress(r.done, r.opts.Rounds*(len(closedModes)*5+6+1+1))
	}
	return nil
}

// order is the sides forwards in one round and backwards in the next, so that a machine which grows slower or faster
// favours neither side of a ratio.
func order(round int, names ...string) []string {
	if round%2 == 1 {
		slices.Reverse(names)
	}
	return names
}
