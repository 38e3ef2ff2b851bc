package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/netfault"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Options configures [Run].
type Options struct {
	StageOptions

	// Faults are the faults to inject; all if empty.
	Faults []Fault
	// Requests is the minimum number of decisions in total, spread evenly over the faults. Rounds is the number of slices per
	// executor and fault, Slice the length of a slice. The remaining requests go to the executor with a shadow, as fast as it
	// answers.
	Requests, Rounds int
	Slice            time.Duration
	// Share is the load as a fraction of one client's throughput, in (0,1).
	Share float64
	// Hang is how long ml-engine hangs under full load while memory is measured; 0 skips this test.
	Hang time.Duration
	// Overload is the length of each load of the overload test; 0 skips it.
	Overload time.Duration
	// Before is the result of a run to continue; its measurements are not repeated. It may be nil.
	Before *Result
	// Save is called after every fault, after the overload and at the end, with the measurements so far.
	Save func(*Result) error
	// Git and Command describe the run.
	Git, Command string
	// Progress is called after every fault.
	Progress func(done, total int)
}

// DefaultOptions returns a million decisions, which take about ten minutes, and a hang of ten more minutes.
func DefaultOptions() Options {
	return Options{
		Faults: Faults(), Requests: 1_000_000, Rounds: 50, Slice: 100 * time.Millisecond, Share: 0.30, Hang: 10 * time.Minute,
		Overload: 3 * time.Second,
	}
}

func (o Options) validate() error {
	switch {
	case o.Requests < 1 || o.Rounds < 1 || o.Slice <= 0:
		return errors.New("faults: want at least one request, one round and a positive slice")
	case !(o.Share > 0 && o.Share < 1):
		return fmt.Errorf("faults: share of the client's load %v: want a number in (0,1)", o.Share)
	}
	return nil
}

// Run injects the faults one after another. A fault that affects decisions is a result; Run returns an error only if something
// could not be measured.
func Run(ctx context.Context, opts Options) (_ *Result, err error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	result := cmp.Or(opts.Before, &Result{Schema: Schema})
	opts.Faults = slices.DeleteFunc(slices.Clone(opts.Faults), func(f Fault) bool {
		return slices.ContainsFunc(result.Rows, func(r Row) bool { return r.Fault == f.Name })
	})
	hangs, overloads := opts.Hang > 0 && result.Hang == nil, opts.Overload > 0 && result.Overload == nil
	if len(opts.Faults) == 0 && !hangs && !overloads {
		return result, nil
	}
	watch := rig.WatchMachine()
	stage, err := NewStage(ctx, opts.StageOptions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	off, on, err := stage.pair(ctx, "", "")
	if err != nil {
		return nil, err
	}
	load, err := stage.clientLoad(ctx, off)
	if err != nil {
		return nil, err
	}
	if err := on.warm(ctx); err != nil {
		return nil, err
	}
	if len(opts.Faults) > 0 {
		result.ClientPerS, result.Share, result.Rounds, result.SliceS = load, opts.Share, opts.Rounds, opts.Slice.Seconds()
	}
	run := len(result.Runs)
	result.Runs = append(result.Runs, RunOf{})
	save := func() error {
		result.Runs[run] = RunOf{watch.Start.UTC(), time.Since(watch.Start).Seconds(), opts.Command, opts.Git, stage.Machine(watch)}
		for _, row := range result.Rows {
			row.Gate.judge(stage.alone)
		}
		return opts.Save(result)
	}
	rate := opts.Share * load
	for i, f := range opts.Faults {
		t := &trial{stage: stage, off: off, on: on, rate: rate, rounds: opts.Rounds, length: opts.Slice}
		t.bulk = int64(opts.Requests/len(opts.Faults)) - int64(2*float64(opts.Rounds)*opts.Slice.Seconds()*rate)
		row, err := t.staged(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		result.add(row)
		if err := save(); err != nil {
			return nil, err
		}
		opts.Progress(i+1, len(opts.Faults))
	}
	if overloads {
		if result.Overload, err = stage.overload(ctx, rate, opts.Overload); err != nil {
			return nil, fmt.Errorf("overload: %w", err)
		}
		if err := save(); err != nil {
			return nil, err
		}
	}
	if hangs {
		if result.Hang, err = stage.hang(ctx, on, opts.Hang); err != nil {
			return nil, err
		}
	}
	return result, save()
}

// pair starts two executors that differ in one flag, and waits until they serve. suffix is appended to their names.
func (s *Stage) pair(ctx context.Context, suffix, engine string) (off, on *Executor, err error) {
	if off, err = s.NewExecutor(ctx, ExecutorOptions{Name: "off" + suffix, Engine: engine}); err != nil {
		return nil, nil, err
	}
	if on, err = s.NewExecutor(ctx, ExecutorOptions{Name: "on" + suffix, Engine: engine, Percent: 100, Gated: s.opts.Gated}); err != nil {
		return nil, nil, err
	}
	if err = on.AwaitShadow(ctx); err == nil {
		err = on.OpenGate(ctx)
	}
	return off, on, err
}

// clientLoad returns the decisions per second of one client with many calls in flight over one connection. The client uses
// more CPU than the executor, so the executor can answer far more.
func (s *Stage) clientLoad(ctx context.Context, e *Executor) (float64, error) {
	if err := e.warm(ctx); err != nil {
		return 0, err
	}
	segment, err := bench.ClosedLoop(ctx, underWay, 2*time.Second, e.decideBothWays)
	if err != nil {
		return 0, err
	}
	if all, _ := e.asked(); all.Lost > 0 {
		return 0, fmt.Errorf("%s: decisions are lost without any fault: %s", e.Name, *e.calls.why.Load())
	}
	return segment.Throughput(), nil
}

// warm sends load until the executor has had its first page faults and garbage collections.
func (e *Executor) warm(ctx context.Context) error {
	_, err := bench.ClosedLoop(ctx, underWay, time.Second, e.decideBothWays)
	if err == nil {
		_, err = e.Settle(ctx)
	}
	return err
}

// staged runs the trial, with separate executors if the fault needs them.
func (t *trial) staged(ctx context.Context, f Fault) (_ Row, err error) {
	if !f.named {
		return t.run(ctx, f)
	}
	if t.names, err = netfault.StartNameServer(ctx); err != nil {
		return Row{}, err
	}
	defer func() { err = errors.Join(err, t.names.Close()) }()
	target, err := t.names.Target(t.stage.Proxy.Addr())
	if err != nil {
		return Row{}, err
	}
	if t.off, t.on, err = t.stage.pair(ctx, "-named", target); err != nil {
		return Row{}, err
	}
	defer func() { err = errors.Join(err, t.on.End(), t.off.End()) }()
	for _, e := range []*Executor{t.off, t.on} {
		if err := e.warm(ctx); err != nil {
			return Row{}, err
		}
	}
	return t.run(ctx, f)
}
