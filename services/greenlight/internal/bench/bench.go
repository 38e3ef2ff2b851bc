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
	// Rounds is how often everything is measured; Closed and Open how long each time in a closed and in an open loop,
	// after WarmUp.
	Rounds               int
	Closed, Open, WarmUp time.Duration
	// Profiles, if set, is a folder that gets the CPU profiles of both services at saturation with a shadow per decision.
	Profiles string
	// Progress, which may be nil, is told of the segments done.
	Progress func(done, total int)
}

// DefaultOptions measure for about four minutes. Many short segments are better than few long ones: what else the machine
// does comes in bursts, and then spoils a round instead of all of them. Open loops take longer, since a p99 is made of one
// call in a hundred.
func DefaultOptions() Options {
	return Options{Rounds: 15, Closed: 500 * time.Millisecond, Open: time.Second, WarmUp: 100 * time.Millisecond}
}

// QuickOptions measure for about a minute.
func QuickOptions() Options {
	return Options{Rounds: 7, Closed: 200 * time.Millisecond, Open: 450 * time.Millisecond, WarmUp: 60 * time.Millisecond}
}

// closedModes are the calls under way in the closed loops, steady the sides that are measured in them. In the open loops
// there are the executors that are just started as well, and then the busy one and the batches.
var (
	closedModes = []int{1, manyUnderWay}
	steady      = []string{echoScoring, engineSide, echoDecision, shadowOff, shadowOn}
	segments    = len(closedModes)*len(steady) + len(steady) + 2 + 1 + 1 // in a round
)

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
	if opts.Rounds < 1 || opts.Closed <= 0 || opts.Open <= 0 || len(opts.States) == 0 {
		return nil, errors.New("bench: rounds, lengths of the loops and states are required")
	}
	began, watch := time.Now(), watchMachine()
	f, err := startFleet(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	r := &run{opts: opts, fleet: f, samples: map[key][]sample{}}
	var phases []func(context.Context, int) error
	for _, underWay := range closedModes {
		phases = append(phases, func(ctx context.Context, round int) error { return r.closed(ctx, round, underWay) })
	}
	// The open loops come last: their rates are shares of what the closed loops have found.
	for _, phase := range append(phases, r.calm, r.busy, r.batch) {
		for round := range opts.Rounds {
			if err := phase(ctx, round); err != nil {
				return nil, err
			}
		}
	}
	if err := f.profile(ctx); err != nil {
		return nil, err
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
func (r *run) closed(ctx context.Context, round, underWay int) error {
	for _, name := range order(round, steady...) {
		err := r.take(closedKey(name, underWay), func() (sample, error) {
			return r.fleet.sides[name].closed(ctx, underWay, r.closedSpan())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// calm measures all sides in open loops, each pair at the same rate: a share of what its reference can do.
func (r *run) calm(ctx context.Context, round int) error {
	for _, name := range order(round, append(slices.Clone(steady), shadowFresh, shadowHung)...) {
		reference := shadowOff
		if name == echoScoring || name == engineSide {
			reference = echoScoring
		}
		rate := calmShare * r.saturation(reference)
		err := r.take(calm(name), func() (sample, error) {
			if name == shadowFresh || name == shadowHung {
				return r.fleet.fresh(ctx, name, round, rate)
			}
			return r.fleet.sides[name].open(ctx, rate, uint64(round), r.openSpan())
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
		return s.open(ctx, busyShare*r.saturation(shadowOn), uint64(round), r.openSpan())
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
	return r.take(batchKey, func() (sample, error) { return r.fleet.batch.closed(ctx, batchCalls, r.closedSpan()) })
}

// saturation is what the side answers per second with many calls under way.
func (r *run) saturation(side string) float64 {
	return spreadOf(measures(r.samples[closedKey(side, manyUnderWay)], sample.throughput)).Median
}

func (r *run) closedSpan() span { return span{warm: r.opts.WarmUp, length: r.opts.Closed} }

func (r *run) openSpan() span { return span{warm: r.opts.WarmUp, length: r.opts.Open} }

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
		r.opts.Progress(r.done, r.opts.Rounds*segments)
	}
	return nil
}

// order is the sides forwards in one round and backwards in the next, so that a machine which grows slower or faster
// favours neither side of a ratio.
func order(round int, names ...string) []string {
	names = slices.Clone(names)
	if round%2 == 1 {
		slices.Reverse(names)
	}
	return names
}
