package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// fleet holds the measured servers. All run all the time; one is measured at a time.
type fleet struct {
	rig.Rig

	opts   Options
	sides  map[string]*side
	full   *decider // of decideFull
	engine *process.Process
}

func newFleet(opts Options) *fleet {
	return &fleet{Rig: rig.Rig{Services: opts.Services, Dir: opts.Dir}, opts: opts, sides: map[string]*side{}}
}

// startFleet starts the servers. If it returns an error, nothing is left running.
func startFleet(ctx context.Context, opts Options) (f *fleet, err error) {
	if opts.Rounds < 1 || opts.Closed <= 0 || opts.Open <= 0 || len(opts.States) == 0 {
		return nil, errors.New("bench: rounds, lengths of the loops and states are required")
	}
	f = newFleet(opts)
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	a := opts.Artifact
	program := filepath.Join(opts.Dir, "echo-server")
	if err := copyProgram(opts.Self, program); err != nil {
		return f, err
	}
	echo, err := f.Start("echo", func(dir string) (*process.Process, error) {
		return process.Start(ctx, program, dir, "bench", "echo-server", "--model-version", a.Manifest.Version, "--baseline-version", a.Baseline.Version)
	})
	if err != nil {
		return f, err
	}
	if f.engine, err = f.startEngine(ctx, "engine"); err != nil {
		return f, err
	}
	processes := map[string]*process.Process{"echo": echo, "engine": f.engine}
	for name, flags := range map[string][]string{
		"off":    {"--sample-percent", "0"},
		"on":     {"--sample-percent", "100"},
		"traced": {"--sample-percent", "0", "--otlp-endpoint", "127.0.0.1:1", "--trace-ratio", "0"}, // nothing is sent
	} {
		if processes[name], err = f.startExecutor(ctx, name, flags...); err != nil {
			return f, err
		}
	}
	echoed := func(traffic.State) float64 { return echoScore }
	for _, d := range []struct {
		name, process string
		want          func(traffic.State) float64
		scoring       bool
		streams       int // of decisions; 0 for calls
	}{
		{echoScoring, "echo", echoed, true, 0},
		{engineSide, "engine", scoreOf, true, 0},
		{echoDecision, "echo", echoed, false, 0},
		{shadowOff, "off", baselineOf, false, 0},
		{shadowOn, "on", baselineOf, false, 0},
		{tracedOff, "traced", baselineOf, false, 0},
		{decideOff, "off", baselineOf, false, manyUnderWay},
		{decideOn, "on", baselineOf, false, manyUnderWay},
		{decideOneOff, "off", baselineOf, false, 1},
		{echoStreams, "echo", echoed, false, manyUnderWay},
		{echoOne, "echo", echoed, false, 1},
	} {
		s, err := f.connect(d.name, processes[d.process])
		switch {
		case err != nil:
		case d.scoring:
			err = s.scoring(ctx, a, opts.States, d.want)
		default:
			err = s.decision(ctx, a, opts.States, d.want, d.streams)
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
	batches, err := f.connect(batchSide, f.engine)
	if err != nil {
		return f, err
	}
	batches.batch(a, opts.States, batchRows)
	if err := f.connectFull(processes["on"]); err != nil {
		return f, err
	}
	f.sides[pingPong], err = f.pings(ctx, echo, manyUnderWay, proto.Size(opts.States[0].VectorRequest(a.Schema.Name)), f.sides[echoDecision].answerSize)
	if err != nil {
		return f, err
	}
	err = f.awaitShadow(ctx, f.sides[shadowOn])
	return f, err
}

// connectFull creates the side whose streams are full, each on its own connection, like a trader's.
func (f *fleet) connectFull(executor *process.Process) error {
	var clients []executorv1.DecisionServiceClient
	for range floodStreams {
		s, err := f.connect(decideFull, executor)
		if err != nil {
			return err
		}
		clients = append(clients, executorv1.NewDecisionServiceClient(s.conn))
	}
	f.full = newDecider(clients, f.opts.Artifact.Schema.Name, f.opts.States, baselineOf)
	f.sides[decideFull].loop = func(ctx context.Context, underWay int, t span) (Sample, error) {
		return f.full.closed(ctx, floodStreams, underWay/floodStreams, t)
	}
	return nil
}

// copyProgram copies an executable file. The echo server must not run from the same file as the client: the two would share
// their code pages, and so the processor's caches of them, which no other server does. That alone moved the ratios with one
// call in flight by 0.05 and more.
func copyProgram(from, to string) error {
	raw, err := durable.ReadFile(from, maxProgram)
	if err != nil {
		return err
	}
	return durable.WriteFile(to, raw, 0o755)
}

// maxProgram bounds this program, in bytes.
const maxProgram = 1 << 30

func (f *fleet) startEngine(ctx context.Context, name string) (*process.Process, error) {
	return f.StartEngine(ctx, name, process.Listen{}, f.profiles())
}

func (f *fleet) startExecutor(ctx context.Context, name string, flags ...string) (*process.Process, error) {
	return f.StartExecutor(ctx, name, f.engine.Addr("grpc"), process.Listen{}, append(flags, f.profiles())...)
}

// connect adds a side of the process.
func (f *fleet) connect(name string, p *process.Process) (*side, error) {
	conn, err := f.Dial(p)
	f.sides[name] = &side{name: name, process: p, conn: conn}
	return f.sides[name], err
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
	pair = newFleet(f.opts)
	defer func() {
		if err != nil {
			err = errors.Join(err, pair.Close())
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
	executor, err := pair.startExecutor(ctx, dir, "--sample-percent", percent)
	if err != nil {
		return nil, err
	}
	s, err := pair.connect(name, executor)
	if err != nil {
		return nil, err
	}
	streams := 0
	if strings.HasPrefix(name, "Decide") {
		streams = manyUnderWay
	}
	if err := s.decision(ctx, f.opts.Artifact, f.opts.States, baselineOf, streams); err != nil {
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
func (f *fleet) freezeEngine(context.Context) error { return f.engine.Signal(syscall.SIGSTOP) }

// killEngine kills the fleet's ml-engine.
func (f *fleet) killEngine(context.Context) error { return f.engine.Kill() }

// spoilEngine kills the fleet's ml-engine and answers garbage at its address.
func (f *fleet) spoilEngine(ctx context.Context) error {
	if err := f.killEngine(ctx); err != nil {
		return err
	}
	g, err := relay.StartGarbage(ctx, f.engine.Addr("grpc"))
	if err == nil {
		f.OnClose(g.Close)
	}
	return err
}
