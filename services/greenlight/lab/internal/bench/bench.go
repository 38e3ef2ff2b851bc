package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// The loads.
const (
	manyUnderWay = 16   // calls in flight in the saturating closed loop
	calmShare    = 0.30 // of saturation: the rate of the open loop
	busyShare    = 0.70 // of saturation: nothing may be shed up to this load
	batchRows    = 1024
	batchCalls   = 4 // batches in flight
	floodStreams = 8 // each full: with MaxUnanswered unanswered
	floodFull    = floodStreams * MaxUnanswered
)

// floodTimes are the loads of a flood, as multiples of saturation.
var floodTimes = []float64{1, 2, 5}

// Options configures [Run].
type Options struct {
	process.Services

	// Self is this program, which is also the echo server. Dir holds the servers' logs.
	Self, Dir string
	// States are the requests. They must fit Artifact, whose schema has the inputs of its baseline.
	States []traffic.State
	// Rounds is the number of times that everything is measured. Closed and Open are the lengths of a side's closed and open
	// loop in a round, Tail the length of its open loop over streams, WarmUp the length of the unmeasured load before. All are
	// cut into slices that alternate with the other sides' slices.
	Rounds                     int
	Closed, Open, Tail, WarmUp time.Duration
	// Profiles, if set, is a folder for CPU profiles of both services at saturation with a shadow per decision.
	Profiles string
	// Progress is called after every segment.
	Progress func(done, total int)
}

// perRound is the number of slices of a side per round, which alternate with the other sides' slices. Other load on the
// machine comes in bursts of a tenth of a second and more, which should affect both sides of a ratio. With one call in flight
// there is a single slice: a server that was idle starts slowly, which would dominate a slice of a tenth of a second.
const perRound = 5

func slicesOf(underWay int) int {
	if underWay == 1 {
		return 1
	}
	return perRound
}

// DefaultOptions returns options for about fifteen minutes. Open loops are longer, because a p99 depends on one call in a
// hundred: over streams they take 60 s for each side.
func DefaultOptions() Options {
	return Options{Rounds: 15, Closed: 500 * time.Millisecond, Open: time.Second, Tail: 4 * time.Second, WarmUp: 200 * time.Millisecond}
}

// QuickOptions returns options for about three minutes.
func QuickOptions() Options {
	return Options{Rounds: 7, Closed: 200 * time.Millisecond, Open: 450 * time.Millisecond, Tail: 450 * time.Millisecond, WarmUp: 100 * time.Millisecond}
}

// closedModes are the numbers of calls in flight in the closed loops, closedSides the sides measured in them. steady and streamed
// are also the sides of the open loops; calls and streams are executors that are restarted in each round for open loops. The
// busy open loop, the batches and the floods come on top.
var (
	closedModes = []int{1, manyUnderWay}
	steady      = []string{echoScoring, engineSide, echoDecision, shadowOff, shadowOn}
	streamed    = []string{decideOff, decideOn}
	closedSides = map[int][]string{
		1:            slices.Concat(steady, []string{decideOneOff}),
		manyUnderWay: slices.Concat(steady, streamed, []string{tracedOff, decideOneOff, echoStreams, echoOne, pingPong}),
	}
	calls    = failing("executor", shadowFresh)
	streams  = failing("Decide", decideFresh)
	segments = len(closedSides[1]) + // in a round
		perRound*(len(closedSides[manyUnderWay])+len(steady)+len(streamed)+len(groupedSides)+2*len(calls)+2*len(streams)) + 3 + len(floodTimes)
)

// failures are what ml-engine does while an executor is measured.
var failures = []struct {
	name  string
	begin func(*fleet, context.Context) error
}{{"engine hangs", (*fleet).freezeEngine}, {"engine dies", (*fleet).killEngine}, {"engine answers garbage", (*fleet).spoilEngine}}

// failing returns a side for each failure, and the reference last.
func failing(side, reference string) (names []string) {
	for _, f := range failures {
		names = append(names, side+", "+f.name)
	}
	return append(names, reference)
}

// run is a measurement in progress: samples by key, one per round.
type run struct {
	opts    Options
	fleet   *fleet
	done    int
	samples map[key][]Sample
	sheds   []float64   // per round of the busy open loop
	floods  [][]float64 // goodput per round, at each of floodTimes
}

// key identifies what a sample measures.
type key struct {
	side     string
	underWay int     // of a closed loop, or 0
	share    float64 // of saturation, of an open loop
}

func closedKey(side string, underWay int) key { return key{side: side, underWay: underWay} }
func calm(side string) key                    { return key{side: side, share: calmShare} }
func fixed(side string) key                   { return key{side: side} } // at a fixed rate

var (
	busyKey  = key{side: shadowOn, share: busyShare}
	batchKey = closedKey(batchSide, batchCalls)
)

// Run measures everything and returns the rows of the table.
func Run(ctx context.Context, opts Options) (_ *Result, err error) {
	watch := rig.WatchMachine()
	f, err := startFleet(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := &run{opts: opts, fleet: f, samples: map[key][]Sample{}}
	var phases []func(context.Context, int) error
	for _, underWay := range closedModes {
		phases = append(phases, func(ctx context.Context, round int) error { return r.closed(ctx, round, underWay) })
	}
	// The open loops come last: their rates are fractions of the closed loops' results.
	for _, phase := range append(phases, r.calm(steady, r.opts.Open), r.calm(streamed, r.opts.Tail),
		r.fails(calls, shadowOff), r.fails(streams, decideOff), r.busy, r.batch, r.flood) {
		for round := range opts.Rounds {
			if err := phase(ctx, round); err != nil {
				return nil, err
			}
		}
	}
	if err := r.grouped(ctx); err != nil {
		return nil, err
	}
	if err := f.profile(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{shadowOff, shadowOn, tracedOff} { // the executors of all sides
		if _, err := f.sides[name].settle(ctx); err != nil {
			return nil, err
		}
	}
	result := r.result()
	result.Header = newHeader(Schema, watch, f.Machine(watch), opts.Rounds)
	return result, nil
}

// closed measures all sides in closed loops.
func (r *run) closed(ctx context.Context, round, underWay int) error {
	n := slicesOf(underWay)
	return inTurn(round, n, closedSides[underWay], func(name string, _ int) error {
		return r.take(closedKey(name, underWay), round, func() (Sample, error) {
			return r.fleet.sides[name].closed(ctx, underWay, r.slice(r.opts.Closed, n))
		})
	})
}

// calm measures sides in open loops, each pair at the same rate: a fraction of the throughput of its reference.
func (r *run) calm(names []string, length time.Duration) func(context.Context, int) error {
	return func(ctx context.Context, round int) error {
		return inTurn(round, perRound, names, func(name string, slice int) error {
			reference := shadowOff
			switch name {
			case echoScoring, engineSide:
				reference = echoScoring
			case decideOff, decideOn:
				reference = decideOff
			}
			return r.take(calm(name), round, func() (Sample, error) {
				return r.fleet.sides[name].open(ctx, calmShare*r.saturation(reference), seed(round, slice), r.slice(length, perRound))
			})
		})
	}
}

// fails measures executors that have just been started, each with a separate ml-engine. Each engine fails at the start of the
// first slice, which is measured without a warm-up: it includes the calls in flight, the queue that fills up and the breaker
// that opens. All are stopped afterwards, because a breaker that has opened once stays open longer the next time.
func (r *run) fails(names []string, steady string) func(context.Context, int) error {
	return func(ctx context.Context, round int) (err error) {
		pairs := map[string]*fleet{}
		defer func() {
			for _, pair := range pairs {
				err = errors.Join(err, pair.Close())
			}
		}()
		for _, name := range names {
			if pairs[name], err = r.fleet.startFresh(ctx, name, round); err != nil {
				delete(pairs, name)
				return err
			}
		}
		length := span{length: r.opts.Open / perRound}
		err = inTurn(round, perRound, names, func(name string, slice int) error {
			if i := slices.Index(names, name); slice == 0 && i < len(failures) {
				if err := failures[i].begin(pairs[name], ctx); err != nil {
					return err
				}
			}
			return r.take(calm(name), round, func() (Sample, error) {
				return pairs[name].sides[name].open(ctx, calmShare*r.saturation(steady), seed(round, slice), length)
			})
		})
		if err != nil {
			return err
		}
		err = inTurn(round, perRound, names, func(name string, _ int) error {
			return r.take(closedKey(name, manyUnderWay), round, func() (Sample, error) {
				return pairs[name].sides[name].closed(ctx, manyUnderWay, r.slice(r.opts.Closed, perRound))
			})
		})
		for name, pair := range pairs {
			if err == nil {
				_, err = pair.sides[name].settle(ctx)
			}
		}
		return err
	}
}

// inTurn calls fn for the n slices of each side in a round, alternately forwards and backwards, so that drifting machine speed
// favours neither side of a ratio.
func inTurn(round, n int, names []string, fn func(name string, slice int) error) error {
	for slice := range n {
		for i := range names {
			if (round+slice)%2 == 1 {
				i = len(names) - 1 - i
			}
			if err := fn(names[i], slice); err != nil {
				return err
			}
		}
	}
	return nil
}

// seed returns the seed of the times of an open loop, which is the same for all sides.
func seed(round, slice int) uint64 { return uint64(round*perRound + slice) }

// busy loads the executor and its shadow to the highest load at which nothing may be shed.
func (r *run) busy(ctx context.Context, round int) error {
	s := r.fleet.sides[shadowOn]
	before, err := s.settle(ctx)
	if err != nil {
		return err
	}
	err = r.take(busyKey, round, func() (Sample, error) {
		return s.open(ctx, busyShare*r.saturation(shadowOn), seed(round, 0), span{warm: r.opts.WarmUp, length: r.opts.Open})
	})
	if err != nil {
		return err
	}
	after, err := s.settle(ctx)
	if err != nil {
		return err
	}
	refused := r.samples[busyKey][round].refused // it has no shadow either, which is worse
	r.sheds = append(r.sheds, float64(after.Of(shadow.Shed)-before.Of(shadow.Shed))+float64(refused))
	return nil
}

func (r *run) batch(ctx context.Context, round int) error {
	return r.take(batchKey, round, func() (Sample, error) {
		return r.fleet.sides[batchSide].closed(ctx, batchCalls, span{warm: r.opts.WarmUp, length: r.opts.Closed})
	})
}

// flood offers the saturation load of 8 full streams, and multiples of it.
func (r *run) flood(ctx context.Context, round int) error {
	s, k := r.fleet.sides[decideFull], closedKey(decideFull, floodFull)
	err := r.take(k, round, func() (Sample, error) { return s.closed(ctx, floodFull, r.slice(r.opts.Closed, 1)) })
	if err != nil {
		return err
	}
	var good []float64
	for i, times := range floodTimes {
		f, err := r.fleet.full.flood(ctx, times*r.samples[k][round].Throughput(), seed(round, i), r.opts.Open)
		if err == nil && f.Wrong+f.Failed > 0 {
			err = fmt.Errorf("%s: %d wrong answers, %d failures", s.name, f.Wrong, f.Failed)
		}
		if err != nil {
			return err
		}
		good = append(good, f.PerSecond())
		r.progress()
	}
	r.floods = append(r.floods, good)
	return nil
}

// saturation returns the answers per second of the side with many calls in flight.
func (r *run) saturation(side string) float64 {
	return SpreadOf(measures(r.samples[closedKey(side, manyUnderWay)], Sample.Throughput)).Median
}

// slice returns one of the n slices of a side in a round.
func (r *run) slice(length time.Duration, n int) span {
	return span{warm: r.opts.WarmUp / time.Duration(n), length: length / time.Duration(n)}
}

// take measures a slice of a round's sample, or the whole sample.
func (r *run) take(k key, round int, measure func() (Sample, error)) error {
	s, err := measure()
	if err != nil {
		return err
	}
	if list := r.samples[k]; len(list) > round {
		list[round].add(s)
	} else {
		r.samples[k] = append(list, s)
	}
	r.progress()
	return nil
}

func (r *run) progress() {
	r.done++
	r.opts.Progress(r.done, r.opts.Rounds*segments)
}
