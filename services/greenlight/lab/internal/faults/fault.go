package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/netfault"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// Fault is a fault that can be injected.
type Fault struct {
	// Name is the name of its row.
	Name string
	// through, if set, routes the proxy through a relay before the fault begins, so that the fault breaks no connection.
	through bool
	// begin injects the fault and returns the function that ends it, which returns when ml-engine can be reached again.
	begin func(context.Context, *trial) (end func(context.Context) error, err error)
	// both reports whether the fault affects both executors. Then it must last through the segments of both.
	both bool
	// named reports whether the fault needs a pair of executors that resolve the name of ml-engine.
	named bool
}

// Faults returns all faults in the order of the table.
func Faults() []Fault {
	return []Fault{
		{Name: "none", begin: nothing},
		{Name: "ml-engine killed", begin: killed},
		{Name: "ml-engine frozen (SIGSTOP)", begin: frozen},
		{Name: "ml-engine restarted in a loop", begin: restarted},
		latency(55, 5), latency(59, 5), latency(61, 5), latency(130, 20),
		resets(0.01), resets(0.10),
		{Name: "bandwidth 1 KB/s", begin: poisoned(netfault.Poison{Kind: "bandwidth", Chance: 1, Both: true, Attrs: map[string]any{"rate": 1}})},
		{Name: "half-open: packets vanish", begin: vanished},
		{Name: "connection refused", begin: refused},
		{Name: "garbage instead of HTTP/2", begin: garbage},
		lying("answers NaN", relay.Scores(func(float64) float64 { return math.NaN() })),
		lying("answers infinity", relay.Scores(func(float64) float64 { return math.Inf(1) })),
		lying("answers 1", relay.Scores(func(float64) float64 { return 1 })),
		lying("answers with a row too many", oneRowTooMany), lying("answers of another version", anotherVersion),
		{Name: "name stops resolving, and refused", begin: unresolved, named: true},
		{Name: "executor's CPU starved", begin: starved, both: true},
	}
}

func nothing(context.Context, *trial) (func(context.Context) error, error) {
	return func(context.Context) error { return nil }, nil
}

func killed(_ context.Context, t *trial) (func(context.Context) error, error) {
	return t.stage.Engine.Start, t.stage.Engine.Kill()
}

func frozen(_ context.Context, t *trial) (func(context.Context) error, error) {
	return func(context.Context) error { return t.stage.Engine.Thaw() }, t.stage.Engine.Freeze()
}

// restarted kills ml-engine repeatedly, one second after each start.
func restarted(ctx context.Context, t *trial) (func(context.Context) error, error) {
	stop := repeat(ctx, func(ctx context.Context) error {
		if err := t.stage.Engine.Kill(); err != nil {
			return err
		}
		if err := t.stage.Engine.Start(ctx); err != nil {
			return err
		}
		traffic.Pause(ctx, time.Second)
		return nil
	})
	return func(ctx context.Context) error {
		err := stop()
		if t.stage.Engine.Err() != nil { // interrupted between its end and its start
			err = errors.Join(err, t.stage.Engine.Start(ctx))
		}
		return err
	}, nil
}

// repeat calls fn repeatedly until stop is called. stop waits for the last call and returns its error.
func repeat(ctx context.Context, fn func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error {
		for ctx.Err() == nil {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return func() error {
		cancel()
		return group.Wait()
	}
}

// latency delays answers by ms plus or minus jitter, in milliseconds.
func latency(ms, jitter int) Fault {
	return Fault{
		Name:  fmt.Sprintf("latency %d ms +- %d", ms, jitter),
		begin: poisoned(netfault.Poison{Kind: "latency", Chance: 1, Attrs: map[string]any{"latency": ms, "jitter": jitter}}),
	}
}

// resets closes the connection with the given chance at every answer. The library's reset_peer, whose own chance is 0 here,
// turns the close into a reset (RST).
func resets(chance float64) Fault {
	toxics := poisoned(
		netfault.Poison{Kind: "reset_peer", Chance: 0, Both: true},
		netfault.Poison{Kind: netfault.CutKind, Chance: 1, Attrs: map[string]any{"chance": chance}},
	)
	return Fault{Name: fmt.Sprintf("resets, %.0f %% of answers", 100*chance), begin: func(ctx context.Context, t *trial) (func(context.Context) error, error) {
		end, err := toxics(ctx, t)
		if err == nil {
			err = t.stage.Proxy.Cut() // reset_peer only affects new connections
		}
		return end, err
	}}
}

func poisoned(toxics ...netfault.Poison) func(context.Context, *trial) (func(context.Context) error, error) {
	return func(_ context.Context, t *trial) (func(context.Context) error, error) {
		return t.stage.Proxy.Cure, t.stage.Proxy.Poison(toxics...)
	}
}

func vanished(_ context.Context, t *trial) (func(context.Context) error, error) {
	p := t.stage.Proxy
	err := p.Poison(netfault.Poison{Kind: netfault.VanishKind, Chance: 1, Both: true})
	p.Vanish(true)
	return func(context.Context) error {
		// The connections stay open, so executor must detect the fault itself.
		p.Vanish(false)
		t.afterwards = p.Cure
		return nil
	}, err
}

func refused(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.stage.Proxy.Refuse()
	return func(context.Context) error { return t.stage.Proxy.Open() }, nil
}

// unresolved stops resolving the name and refuses connections to the address that executor knew.
func unresolved(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.names.Silence(true)
	t.stage.Proxy.Refuse()
	return func(context.Context) error {
		t.names.Silence(false)
		return t.stage.Proxy.Open()
	}, nil
}

func garbage(ctx context.Context, t *trial) (func(context.Context) error, error) {
	g, err := relay.StartGarbage(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return func(context.Context) error {
		return errors.Join(t.stage.Proxy.Route(t.stage.Engine.Addr("grpc")), g.Close())
	}, t.stage.Proxy.Route(g.Addr())
}

func lying(name string, change relay.Change) Fault {
	return Fault{Name: name, through: true, begin: func(_ context.Context, t *trial) (func(context.Context) error, error) {
		t.stage.relay.Set(change)
		return func(context.Context) error {
			t.stage.relay.Set(nil)
			t.afterwards = func(context.Context) error { return t.stage.Proxy.Route(t.stage.Engine.Addr("grpc")) }
			return nil
		}, nil
	}}
}

func oneRowTooMany(_ context.Context, r *mlenginev1.BatchPredictResponse) error {
	r.Scores = append(r.GetScores(), 0.5)
	return nil
}

func anotherVersion(_ context.Context, r *mlenginev1.BatchPredictResponse) error {
	r.ModelVersion, r.ModelDigest = "v0.0-unknown", strings.Repeat("0", 64)
	return nil
}

// prepare points the proxy to the relay if the fault needs it.
func (s *Stage) prepare(ctx context.Context, f Fault) (err error) {
	if !f.through {
		return nil
	}
	if s.relay == nil {
		if s.relay, err = relay.Start(ctx, s.Engine.Addr("grpc")); err != nil {
			return err
		}
		s.OnClose(s.relay.Close)
	}
	return s.Proxy.Route(s.relay.Addr())
}

// starved pauses the executors half of the time: 40 ms running, 40 ms stopped.
func starved(ctx context.Context, t *trial) (func(context.Context) error, error) {
	const share = 40 * time.Millisecond
	signal := func(s syscall.Signal) error {
		return errors.Join(t.off.Process.Signal(s), t.on.Process.Signal(s))
	}
	stop := repeat(ctx, func(ctx context.Context) error {
		if err := signal(syscall.SIGSTOP); err != nil {
			return err
		}
		traffic.Pause(ctx, share)
		if err := signal(syscall.SIGCONT); err != nil {
			return err
		}
		traffic.Pause(ctx, share)
		return nil
	})
	return func(context.Context) error { return errors.Join(stop(), signal(syscall.SIGCONT)) }, nil
}

// Let injects the named fault into the stage, for a load that the caller runs. The caller must end it before it injects
// another; end returns when ml-engine can be reached again. Faults that need separate executors cannot be used here.
func (s *Stage) Let(ctx context.Context, name string) (end func(context.Context) error, err error) {
	all := Faults()
	i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == name })
	if i < 0 || all[i].both || all[i].named {
		return nil, fmt.Errorf("no fault of a stage is named %q", name)
	}
	if s.untidy != nil {
		if err := s.untidy(ctx); err != nil {
			return nil, err
		}
		s.untidy = nil
	}
	t := &trial{stage: s}
	if err := s.prepare(ctx, all[i]); err != nil {
		return nil, err
	}
	finish, err := all[i].begin(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return func(ctx context.Context) error {
		err := finish(ctx)
		s.untidy = t.afterwards
		return err
	}, nil
}
