package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/durable"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// fleet has the measured servers. All run all the time; one is measured at a time.
type fleet struct {
	opts    Options
	sides   map[string]*side
	batch   *side
	full    *decider // of decideFull
	engine  *process.Process
	pastCPU time.Duration // CPU time of servers that have been stopped
	closers []func() error
}

// startFleet starts the servers. If it returns an error, nothing is left running.
func startFleet(ctx context.Context, opts Options) (f *fleet, err error) {
	f = &fleet{opts: opts, sides: map[string]*side{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.stop())
		}
	}()
	a := opts.Artifact
	program := filepath.Join(opts.Dir, "echo-server")
	if err := copyProgram(opts.Self, program); err != nil {
		return f, err
	}
	echo, err := f.start("echo", func(dir string) (*process.Process, error) {
		return process.Start(ctx, program, dir, "bench", "echo-server", "--model-version", a.Manifest.Version, "--baseline-version", a.Baseline.Version)
	})
	if err != nil {
		return f, err
	}
	if f.engine, err = f.startEngine(ctx, "engine"); err != nil {
		return f, err
	}
	off, err := f.startExecutor(ctx, "off", f.engine, "0")
	if err != nil {
		return f, err
	}
	on, err := f.startExecutor(ctx, "on", f.engine, "100")
	if err != nil {
		return f, err
	}
	traced, err := f.startExecutor(ctx, "traced", f.engine, "0", "--otlp-endpoint", "127.0.0.1:1", "--trace-ratio", "0") // nothing is sent
	if err != nil {
		return f, err
	}
	echoed := func(traffic.State) float64 { return echoScore }
	for _, d := range []struct {
		name    string
		process *process.Process
		want    func(traffic.State) float64
		scoring bool
		streams int // of decisions; 0 for calls
	}{
		{echoScoring, echo, echoed, true, 0},
		{engineSide, f.engine, scoreOf, true, 0},
		{echoDecision, echo, echoed, false, 0},
		{shadowOff, off, baselineOf, false, 0},
		{shadowOn, on, baselineOf, false, 0},
		{tracedOff, traced, baselineOf, false, 0},
		{decideOff, off, baselineOf, false, manyUnderWay},
		{decideOn, on, baselineOf, false, manyUnderWay},
		{decideOneOff, off, baselineOf, false, 1},
	} {
		s, err := f.connect(d.name, d.process)
		if err != nil {
			return f, err
		}
		f.sides[d.name] = s
		switch {
		case d.scoring:
			err = s.scoring(ctx, a, opts.States, d.want)
		case d.streams > 0:
			err = s.deciding(ctx, a, opts.States, d.want, d.streams)
		default:
			err = s.decision(ctx, a, opts.States, d.want)
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	for _, pair := range [][2]string{{echoScoring, engineSide}, {echoDecision, shadowOff}} {
		if a, b := f.sides[pair[0]], f.sides[pair[1]]; a.answerSize != b.answerSize {
			return f, fmt.Errorf("%s answers %d bytes, %s %d: nothing to compare", a.name, a.answerSize, b.name, b.answerSize)
		}
	}
	if f.batch, err = f.connect("ml-engine, batches", f.engine); err != nil {
		return f, err
	}
	f.batch.batch(a, opts.States, batchRows)
	if err := f.connectFull(on); err != nil {
		return f, err
	}
	ping, err := pings(ctx, echo, manyUnderWay, proto.Size(opts.States[0].VectorRequest(a.Schema.Name)), f.sides[echoDecision].answerSize)
	if err != nil {
		return f, err
	}
	f.sides[pingPong] = ping
	f.closers = append(f.closers, ping.close)
	err = f.awaitShadow(ctx, f.sides[shadowOn])
	return f, err
}

// connectFull makes the side whose streams are full, each on a connection as traders have.
func (f *fleet) connectFull(executor *process.Process) error {
	var clients []executorv1.DecisionServiceClient
	for range floodStreams {
		s, err := f.connect(decideFull, executor)
		if err != nil {
			return err
		}
		f.sides[decideFull] = s
		clients = append(clients, executorv1.NewDecisionServiceClient(s.conn))
	}
	f.full = newDecider(clients, f.opts.Artifact.Schema.Name, f.opts.States, baselineOf)
	f.sides[decideFull].loop = func(ctx context.Context, underWay int, t span) (sample, error) {
		return f.full.closed(ctx, floodStreams, underWay/floodStreams, t)
	}
	return nil
}

// copyProgram copies an executable file. The echo server must not run from the same file as the client: the two would share
// the memory of their code, and so the processor's caches of it, which no other server can. That alone moved the ratios of one
// call under way by 0.05 and more.
func copyProgram(from, to string) error {
	in, err := durable.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := durable.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// start starts a process with a separate folder for its log.
func (f *fleet) start(name string, start func(dir string) (*process.Process, error)) (*process.Process, error) {
	dir := filepath.Join(f.opts.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := start(dir)
	if err != nil {
		return nil, err
	}
	f.closers = append(f.closers, func() error { return p.Stop(process.StopGrace) })
	return p, nil
}

func (f *fleet) services() process.Services {
	return process.Services{Programs: f.opts.Bin, Models: f.opts.Models, Artifact: f.opts.Artifact}
}

func (f *fleet) startEngine(ctx context.Context, name string) (*process.Process, error) {
	return f.start(name, func(dir string) (*process.Process, error) {
		return f.services().Engine(ctx, dir, process.Listen{}, f.profiles())
	})
}

func (f *fleet) startExecutor(ctx context.Context, name string, engine *process.Process, percent string, more ...string) (*process.Process, error) {
	return f.start(name, func(dir string) (*process.Process, error) {
		return f.services().Executor(ctx, dir, engine.Addr("grpc"), process.Listen{}, append([]string{"--sample-percent", percent, f.profiles()}, more...)...)
	})
}

func (f *fleet) connect(name string, p *process.Process) (*side, error) {
	s, err := connect(name, p)
	if err == nil {
		f.closers = append(f.closers, s.conn.Close)
	}
	return s, err
}

// stop stops everything in reverse order.
func (f *fleet) stop() error {
	var errs []error
	for _, c := range slices.Backward(f.closers) {
		errs = append(errs, c())
	}
	f.closers = nil
	return errors.Join(errs...)
}

// awaitShadow waits until the executor's shadows are answered.
func (f *fleet) awaitShadow(ctx context.Context, s *side) error {
	if _, err := process.AwaitShadow(ctx, executorv1.NewDecisionServiceClient(s.conn), f.opts.States[0]); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// startFresh starts an executor with its own ml-engine, and sends requests until the first page faults and garbage
// collections of the new processes are over.
func (f *fleet) startFresh(ctx context.Context, name string, round int) (pair *fleet, err error) {
	pair = &fleet{opts: f.opts, sides: map[string]*side{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, pair.stop())
		}
	}()
	off := name == shadowFresh || name == decideFresh
	dir, percent := fmt.Sprintf("%s-%d", strings.NewReplacer(", ", "-", " ", "-").Replace(name), round), "100"
	if off {
		percent = "0"
	}
	if pair.engine, err = pair.startEngine(ctx, dir+"-engine"); err != nil {
		return nil, err
	}
	executor, err := pair.startExecutor(ctx, dir, pair.engine, percent)
	if err != nil {
		return nil, err
	}
	s, err := pair.connect(name, executor)
	if err != nil {
		return nil, err
	}
	pair.sides[name] = s
	if strings.HasPrefix(name, "Decide") {
		err = s.deciding(ctx, f.opts.Artifact, f.opts.States, baselineOf, manyUnderWay)
	} else {
		err = s.decision(ctx, f.opts.Artifact, f.opts.States, baselineOf)
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.closed(ctx, manyUnderWay, span{length: f.opts.Closed}); err != nil {
		return nil, err
	}
	if !off {
		err = pair.awaitShadow(ctx, s)
	}
	return pair, err
}

// freezeEngine suspends the fleet's ml-engine.
func (f *fleet) freezeEngine(context.Context) error {
	if err := f.engine.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	// A frozen process cannot stop gracefully. Closers run in reverse order.
	f.closers = append(f.closers, func() error { return f.engine.Signal(syscall.SIGCONT) })
	return nil
}

// killEngine kills the fleet's ml-engine.
func (f *fleet) killEngine(context.Context) error {
	used, _ := CPU(f.engine.PID())
	f.pastCPU += used
	return f.engine.Kill()
}

// spoilEngine kills the fleet's ml-engine and answers garbage at its address.
func (f *fleet) spoilEngine(ctx context.Context) error {
	if err := f.killEngine(ctx); err != nil {
		return err
	}
	g, err := relay.StartGarbage(ctx, f.engine.Addr("grpc"))
	if err == nil {
		f.closers = append(f.closers, g.Close)
	}
	return err
}

// retire stops another fleet and keeps its CPU time.
func (f *fleet) retire(pair *fleet) error {
	processes := []*process.Process{pair.engine}
	for _, s := range pair.sides {
		processes = append(processes, s.process)
	}
	for _, p := range processes {
		used, _ := CPU(p.PID())
		f.pastCPU += used
	}
	f.pastCPU += pair.pastCPU
	return pair.stop()
}
