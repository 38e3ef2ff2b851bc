// Package fleetdemo demonstrates a canary of a group of executors on one machine: three NATS servers, two ml-engines, four
// executors and the canary. Each executor and the canary is a process. First a server is killed, then the canary.
package fleetdemo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/natshost"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

const (
	engines, executors = 2, 4
	groupName          = "demo"
	// patience is the longest wait for an expected event, on a busy machine; glance is the time between two readings of the
	// shares.
	patience = 90 * time.Second
	glance   = 50 * time.Millisecond
	// slack is how long a share may last after the lease, as the executors measure it and the demonstration reads it.
	slack = time.Second
	// still is how long nothing may happen after the controller has died and the lease has lapsed.
	still = 2 * time.Second
)

// Options configure the demonstration. All are required.
type Options struct {
	// Desk holds the states that are sent to each executor.
	operator.Desk

	// KeyFile is the operator's private key; the public key is in the same file name with .pub appended.
	KeyFile string
	// Say prints progress.
	Say func(format string, args ...any)
}

// Result is the result of the demonstration.
type Result struct {
	// Lines holds the shares of the executors whenever one has changed.
	Lines []Line
	// Expected lists the expectations, in order.
	Expected []Expectation
}

// Line holds the share of each executor, in percent, and the time since the start.
type Line struct {
	At     time.Duration
	What   string
	Shares [executors]float64
}

// Expectation is what must happen, and what happened.
type Expectation struct {
	What, Seen string
	Met        bool
}

// demo is a running demonstration.
type demo struct {
	Options

	servers  *natshost.Servers
	began    time.Time
	deciders [executors]fleet.Executor
	engines  []string
	answers  [executors]traffic.Answers
	running  sync.WaitGroup

	mu  sync.Mutex
	now [executors]float64
	// unread is the latest error of reading them.
	unread error
	res    Result
}

// Run runs the demonstration.
func Run(ctx context.Context, o Options) (*Result, error) {
	d := &demo{Options: o, began: time.Now()}
	err := natshost.With(ctx, filepath.Join(o.Dir, "nats"), func(s *natshost.Servers) (err error) {
		d.servers = s
		ctx, cancel := context.WithCancel(ctx)
		defer func() {
			cancel()
			d.running.Wait()
			err = errors.Join(err, d.Close())
		}()
		if err := d.start(ctx); err != nil {
			return err
		}
		return d.play(ctx)
	})
	if err == nil {
		d.judgeAnswers()
	}
	return &d.res, err
}

// start starts the services, the traffic, and the reading of the shares.
func (d *demo) start(ctx context.Context) error {
	d.Say("three NATS servers are running: %s", d.servers.Direct())
	if err := d.WritePolicy(); err != nil {
		return err
	}
	for i := range engines {
		p, err := d.StartEngine(ctx, fmt.Sprint("engine-", i+1), process.Listen{}, "--drift-clock", "event")
		if err != nil {
			return err
		}
		d.engines = append(d.engines, p.Addr("grpc"))
	}
	for i := range executors {
		name := fmt.Sprint("executor-", i+1)
		p, err := d.StartExecutor(ctx, name, d.engines[i%engines], process.Listen{}, "--sample-percent", "0", "--state-dir", filepath.Join(d.Dir, name, "state"),
			"--shadow-timeout", d.ShadowTimeout.String(), "--fleet", d.servers.Direct(), "--fleet-group", groupName, "--fleet-trust", d.KeyFile+".pub")
		if err != nil {
			return err
		}
		conn, err := d.Dial(p)
		if err != nil {
			return err
		}
		d.deciders[i] = fleet.NewExecutor(p.Addr("grpc"), conn)
		if _, err := d.deciders[i].Decisions.PredictWithShadow(ctx, d.States[0].Request(), grpc.WaitForReady(true)); err != nil {
			return fmt.Errorf("executor %d: %w", i+1, err)
		}
	}
	for i := range executors {
		d.running.Go(func() {
			d.answers[i] = traffic.Decide(ctx, d.deciders[i].Decisions, d.States, traffic.Pace{Concurrency: 4, Rate: d.Rate})
		})
	}
	d.running.Go(func() {
		for d.read(ctx); traffic.Pause(ctx, glance); d.read(ctx) {
		}
	})
	d.Say("two ml-engines and four executors are running, and each executor decides %g times a second", d.Rate)
	return nil
}

// read reads the shares.
func (d *demo) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var now [executors]float64
	for i, e := range d.deciders {
		r, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
		if err != nil {
			d.mu.Lock()
			d.unread = err // the end, or a busy machine: the next read follows soon
			d.mu.Unlock()
			return
		}
		now[i] = r.GetSamplePercent()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now != d.now || len(d.res.Lines) == 0 {
		d.now = now
		d.line("")
	}
}

// line adds a line. The caller holds the lock.
func (d *demo) line(what string) {
	d.res.Lines = append(d.res.Lines, Line{time.Since(d.began), what, d.now})
}

// event records an action.
func (d *demo) event(what string) {
	d.Say("%5.1f s  %s", time.Since(d.began).Seconds(), what)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line(what)
}

func (d *demo) shares() [executors]float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *demo) expect(what string, met bool, seen string, args ...any) {
	e := Expectation{what, fmt.Sprintf(seen, args...), met}
	d.res.Expected = append(d.res.Expected, e)
	d.Say("%5.1f s  %-4s  %s: %s", time.Since(d.began).Seconds(), e.verdict(), what, e.Seen)
}

func (e *Expectation) verdict() gate.Verdict {
	if e.Met {
		return gate.Pass
	}
	return gate.Fail
}

// await waits until ok returns true, up to a limit, and reports whether it did, and how long that took.
func await(ctx context.Context, limit time.Duration, ok func() bool) (time.Duration, bool) {
	took, done, _ := rig.Await(ctx, limit, func() (bool, error) { return ok(), nil })
	return took, done
}

// all reports whether ok is true for the shares of all executors.
func (d *demo) all(ok func(share float64) bool) func() bool {
	return func() bool {
		for _, s := range d.shares() {
			if !ok(s) {
				return false
			}
		}
		return true
	}
}

func zero(share float64) bool  { return share == 0 }
func above(share float64) bool { return share > 0 }

// play runs the canary and injects the failures.
func (d *demo) play(ctx context.Context) error {
	c, err := d.begin(ctx)
	if err != nil {
		return err
	}
	lease := time.Duration(d.Policy.Lease)
	_, ok := await(ctx, patience, d.all(above))
	d.expect("all executors reach the share", ok, "%v", d.shares())

	d.event("NATS server 1 is killed")
	d.servers.Kill(0)
	_, fell := await(ctx, lease+slack, func() bool { return c.Ended() || !d.all(above)() })
	if c.Ended() {
		return fmt.Errorf("the canary ended early: %s", c.LastLine())
	}
	d.expect("nothing happens for a lease", !fell, "%v", d.shares())

	d.event("the canary is killed (SIGKILL)")
	if err := c.Kill(); err != nil {
		return err
	}
	took, ok := await(ctx, patience, d.all(zero))
	d.expect(fmt.Sprintf("all executors are at 0 %% within the lease of %v", d.Policy.Lease), ok && took <= lease+slack, "after %.1f s", took.Seconds())
	_, rose := await(ctx, still, func() bool { return !d.all(zero)() })
	d.expect("they stay there", !rose, "%v", d.shares())

	d.event("the canary is resumed")
	if c, err = d.Run("resume", "canary", "start", "--state", string(d.State()), "--resume", "--fleet-key", d.KeyFile); err != nil {
		return err
	}
	took, ok = await(ctx, patience, func() bool { return c.Ended() || d.all(above)() })
	d.expect("all executors have a share again", ok && !c.Ended(), "%v after %.1f s", d.shares(), took.Seconds())
	if _, ok = await(ctx, patience, c.Ended); !ok {
		d.expect("the canary ends", false, "it has not: %s", c.LastLine())
		return nil
	}
	decision := canary.Decision("")
	if r := d.Record(); r != nil {
		decision = r.Decision
	}
	d.expect("the canary passes, or aborts", c.Wait() == 0 && decision == canary.Passed || c.Wait() == 3 && decision == canary.Aborted,
		"%s, exit %d", decision, c.Wait())
	d.event("the canary has ended")
	_, ok = await(ctx, patience, d.all(zero))
	d.expect("all executors are at 0 % in the end", ok, "%v", d.shares())
	report, err := evidence.Verify(d.Evidence)
	if err == nil {
		err = report.Err()
	}
	seen := "it does"
	if err != nil {
		seen = err.Error()
	}
	d.expect("the evidence verifies", err == nil, "%s", seen)
	return nil
}

// begin plans and starts the canary.
func (d *demo) begin(ctx context.Context) (*operator.Command, error) {
	c, err := operator.Begin(
		func() (*operator.Command, error) {
			return d.Run("plan", "canary", "plan", "--engine", strings.Join(d.engines, ","), "--fleet", d.servers.Direct(), "--fleet-group", groupName,
				"--fleet-key", d.KeyFile, "--evidence", d.Evidence, "--state", string(d.State()), "--policy", d.PolicyFile(), "--source", string(d.Source))
		},
		func(phrase string) (*operator.Command, error) {
			return d.Run("canary", "canary", "start", "--state", string(d.State()), "--confirm", phrase, "--fleet-key", d.KeyFile)
		},
		func(c *operator.Command) (bool, error) {
			_, ok := await(ctx, patience, func() bool { return c.Ended() || slices.ContainsFunc(shareList(d.shares()), above) })
			return ok && !c.Ended(), nil
		})
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		return nil, errors.Join(err, d.unread)
	}
	d.event("the canary has started")
	return c, nil
}

func shareList(s [executors]float64) []float64 { return s[:] }

// judgeAnswers judges the decisions once all have been counted.
func (d *demo) judgeAnswers() {
	var sum traffic.Answers
	for _, a := range d.answers {
		sum.Total, sum.Changed, sum.Failed, sum.Away = sum.Total+a.Total, sum.Changed+a.Changed, sum.Failed+a.Failed, sum.Away+a.Away
	}
	d.expect("every decision is the baseline's", sum.Total > 0 && sum.Changed+sum.Failed+sum.Away == 0, "%d decisions, %d changed, %d lost",
		sum.Total, sum.Changed, sum.Failed+sum.Away)
}

// Table prints the result.
func (r *Result) Table(w io.Writer) error {
	heads := []string{">time"}
	for i := range executors {
		heads = append(heads, fmt.Sprint(">executor ", i+1))
	}
	t := table.New(append(heads, "event")...)
	for _, l := range r.Lines {
		cells := []any{fmt.Sprintf("%.1f s", l.At.Seconds())}
		for _, s := range l.Shares {
			cells = append(cells, fmt.Sprintf("%g %%", s))
		}
		t.Row(append(cells, l.What)...)
	}
	if err := t.Text(w); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	t = table.New("expected", "verdict", "seen")
	for _, e := range r.Expected {
		t.Row(e.What, e.verdict(), e.Seen)
	}
	return t.Text(w)
}

// OK reports whether all expectations were met.
func (r *Result) OK() bool {
	return len(r.Expected) > 0 && !slices.ContainsFunc(r.Expected, func(e Expectation) bool { return !e.Met })
}
