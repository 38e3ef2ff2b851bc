// Package chaos runs the pair under mixed load with random events: faults between the services, activations of another model,
// canaries, gates behind which the model decides, and restarts of an executor. A seed determines the events and their times.
//
// Two executors are behind the faulty proxy. The steady one runs throughout, so that leaks show. The other one is drained and
// restarted from its state folder. Every answer is checked bit for bit: decisions against the baseline or the model that
// decided, shadow scores and digests against the model, and decisions on quotes against features that this package computes
// from the same quotes. At the end, every request of every executor process must have had exactly one outcome.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/model"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Options configures [Run].
type Options struct {
	// Stage has the services and the folder. Its artifact is the first of Models. All Models are in its registry folder.
	Stage  faults.StageOptions
	Models []*model.Artifact
	States []State
	Seed   uint64
	// Duration is the length of the run, at least MinDuration.
	Duration time.Duration
	// Progress is called with the seconds that have passed.
	Progress func(done, total int)
}

// MinDuration is the shortest run: one minute and the quiet time at the end.
const MinDuration = quiet + time.Minute

// The rates of the load, in calls per second. Half of predictRate and of quoteRate uses Decide streams. The rates are low: a
// run looks for faults that appear over time, not under load.
const (
	predictRate = 200
	withRate    = 60
	facadeRate  = 20
	quoteRate   = 40
	streamRate  = 1
)

// run is a run in progress.
type run struct {
	opts   Options
	stage  *faults.Stage
	book   *book
	steady *faults.Executor
	second *second
	engine fleet.Engine
	start  time.Time

	mu     sync.Mutex
	counts map[string]int // events by result
	breaks []faults.Change
	held   []faults.Resources
}

// Run runs the schedule. Wrong answers are part of the result; it returns an error only if the run could not be completed.
func Run(ctx context.Context, opts Options) (_ *Result, err error) {
	if opts.Duration < MinDuration || len(opts.Models) < 2 || len(opts.States) == 0 {
		return nil, fmt.Errorf("chaos: two models, states, and at least %v are needed", MinDuration)
	}
	watch := rig.WatchMachine()
	r := &run{opts: opts, book: &book{of: map[string]*Calls{}}, counts: map[string]int{}}
	for _, s := range opts.States {
		opts.Stage.States = append(opts.Stage.States, s.State)
	}
	if r.stage, err = faults.NewStage(ctx, opts.Stage); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stage.Close()) }()
	if r.steady, err = r.stage.NewExecutor(ctx, faults.ExecutorOptions{Name: "steady", Percent: 100, Gated: true}); err != nil {
		return nil, err
	}
	r.second = &second{run: r}
	if err := r.second.begin(ctx); err != nil {
		return nil, err
	}
	conn, err := r.stage.Dial(r.stage.Engine.Process)
	if err != nil {
		return nil, err
	}
	r.engine = fleet.NewEngine(r.stage.Engine.Addr("grpc"), conn)
	feed, err := newFeed(opts.Stage.Artifact.Baseline, r.book, r.second, opts.Seed)
	if err == nil {
		err = feed.prepare(ctx, r.second.now.Load())
	}
	if err != nil {
		return nil, err
	}
	if err := r.steady.AwaitShadow(ctx); err != nil {
		return nil, err
	}
	r.start = time.Now()
	if err := r.happen(ctx, feed); err != nil {
		return nil, err
	}
	return r.result(ctx, watch)
}

// happen runs the load and the events until the time is up.
func (r *run) happen(ctx context.Context, f *feed) error {
	events := Schedule(r.opts.Seed, r.opts.Duration)
	timed, stop := context.WithTimeout(ctx, r.opts.Duration)
	defer stop()
	group, loaded := errgroup.WithContext(timed)
	t := &callers{states: r.opts.States, baseline: r.opts.Stage.Artifact.Baseline.Digest(), book: r.book}
	for _, l := range []struct {
		rate float64
		fn   func(context.Context, int)
	}{
		{predictRate / 2, t.predict(predicts, r.steady.Predict)},
		{predictRate / 2, t.predict(decides, r.steady.Streams.Decide)},
		{withRate, t.withShadow(r.steady)},
		{facadeRate, t.facade(r.steady)},
		{quoteRate, f.decide},
		{streamRate, stream(r.book, r.steady, f.all)},
		{1, r.sample},
	} {
		group.Go(func() error {
			every(loaded, l.rate, l.fn)
			return nil
		})
	}
	for kind, do := range map[Kind]func(context.Context, Event) error{
		Fault: r.fault, Swap: r.swap, Canary: r.canary, Restart: r.second.restart,
	} {
		group.Go(func() error {
			for _, e := range of(events, kind) {
				if !traffic.Pause(loaded, time.Until(r.start.Add(e.At))) {
					break
				}
				if err := do(loaded, e); err != nil && loaded.Err() == nil {
					return fmt.Errorf("%s %s at %v: %w", e.Kind, e.What, e.At, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// happened counts the result of an event.
func (r *run) happened(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
}

// sample records the resources of the steady executor and the state of its breaker.
func (r *run) sample(ctx context.Context, i int) {
	r.opts.Progress(min(i, int(r.opts.Duration.Seconds())), int(r.opts.Duration.Seconds()))
	held, err := r.steady.Resources(ctx)
	if err != nil {
		r.book.lost("metrics", err)
		return
	}
	counts, err := r.steady.Counters(ctx)
	if err != nil {
		r.book.lost("report", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = append(r.held, held)
	state := faults.StateWord(counts.Breaker)
	if n := len(r.breaks); n == 0 || r.breaks[n-1].State != state {
		r.breaks = append(r.breaks, faults.Change{AtS: time.Since(r.start).Seconds(), State: state})
	}
}

// fault injects a fault for the event's time.
func (r *run) fault(ctx context.Context, e Event) error {
	end, err := r.stage.Let(ctx, e.What)
	if err != nil {
		return err
	}
	traffic.Pause(ctx, e.For)
	r.happened("fault")
	return end(context.WithoutCancel(ctx))
}

// swapTimeout is how long a swap may take. A frozen ml-engine cannot swap.
const swapTimeout = 2 * time.Second

// swap activates the model that is not active. It does nothing while a fault has stopped the engine.
func (r *run) swap(ctx context.Context, _ Event) error {
	ctx, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	info, err := r.engine.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
	if err == nil {
		next := r.opts.Models[0]
		if info.GetDigest() == next.Digest() {
			next = r.opts.Models[1]
		}
		_, err = r.engine.Models.ActivateModel(ctx, &mlenginev1.ActivateModelRequest{Model: next.Manifest.Name + "/" + next.Manifest.Version})
	}
	if err != nil {
		r.happened("swap, ml-engine away")
		return nil // the engine is killed
	}
	r.happened("swap")
	return nil
}

// second is the executor that is drained and restarted, at the same addresses and with the same state folder.
type second struct {
	run *run
	// now is the current or last executor. draining reports whether it is stopping, or the next one is starting.
	now      atomic.Pointer[faults.Executor]
	draining atomic.Bool
	at       process.Listen
	lives    int
	ended    []life
}

// life holds the counters of one process.
type life struct{ requests, inFlight uint64 }

func (s *second) begin(ctx context.Context) error {
	s.lives++
	dir := s.run.opts.Stage.Dir
	e, err := s.run.stage.NewExecutor(ctx, faults.ExecutorOptions{Name: fmt.Sprintf("restarted-%d", s.lives), Listen: s.at, Percent: 100, More: []string{
		"--state-dir", dir + "/state", "--feature-log", dir + "/feature-log",
		"--feature-log-interval", "5s",
	}})
	if err != nil {
		return err
	}
	s.at = process.Listen{GRPC: e.Process.Addr("grpc"), HTTP: e.Process.Addr("http")}
	s.now.Store(e)
	return nil
}

// restart drains the executor under load and restarts it.
func (s *second) restart(ctx context.Context, _ Event) error {
	s.draining.Store(true)
	defer s.draining.Store(false)
	if err := s.end(); err != nil {
		return err
	}
	s.run.happened("restart")
	return s.begin(context.WithoutCancel(ctx))
}

// end drains the executor and records its counters.
func (s *second) end() error {
	e := s.now.Load()
	if err := e.End(); err != nil {
		return err
	}
	l, err := lastWords(fmt.Sprintf("%s/restarted-%d/executor.log", s.run.opts.Stage.Dir, s.lives))
	s.ended = append(s.ended, l)
	return err
}

var stopped = regexp.MustCompile(`executor stopped.*requests"?[=:](\d+).*in_flight"?[=:](\d+)`)

// lastWords reads the last log lines of a stopped executor: how many requests it counted, and how many were in flight.
func lastWords(path string) (life, error) {
	raw, err := durable.ReadFile(path, durable.MaxDocument)
	if err != nil {
		return life{}, err
	}
	m := stopped.FindSubmatch(raw)
	if m == nil {
		return life{}, fmt.Errorf("%s: executor did not log that it stopped", path)
	}
	requests, err := strconv.ParseUint(string(m[1]), 10, 64)
	inFlight, err2 := strconv.ParseUint(string(m[2]), 10, 64)
	return life{requests, inFlight}, errors.Join(err, err2)
}
