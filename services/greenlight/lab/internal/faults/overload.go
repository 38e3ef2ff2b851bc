package faults

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Overload is the result of two tests: one requests more decisions than the executor can make, the other has a misbehaving
// client.
type Overload struct {
	// ServerCPUs are for the executor only, LoadCPUs for the load and ml-engine; 0 if all share.
	ServerCPUs int `json:"server_cpus"`
	LoadCPUs   int `json:"load_cpus"`
	// Loads uses calls, Streams the same loads over streams; nil if it was not measured.
	Loads
	Streams     *Loads `json:"streams,omitempty"`
	Clients     []Bad  `json:"clients"`
	Unaccounted int64  `json:"unaccounted"`
}

// Loads holds growing loads, and loads beyond saturation.
type Loads struct {
	// Ramp holds the growing loads. SaturationPerS is their largest goodput. Levels are multiples of it.
	Ramp           []Level `json:"ramp"`
	SaturationPerS float64 `json:"saturation_per_s"`
	Levels         []Level `json:"levels"`
	// PeakPerS is the largest goodput of all loads.
	PeakPerS float64 `json:"peak_per_s"`
	// RecoveryS is the time in seconds from the end of the largest load until every decision of a light load was answered in
	// time during a tenth of a second; negative if that did not happen within 5 s.
	RecoveryS float64 `json:"recovery_s"`
}

// Level is one offered load.
type Level struct {
	bench.Flood
	// Times is the multiple of saturation, 0 in the ramp. OfferedPerS is the request rate, GoodPerS the rate of correct
	// answers within 100 ms.
	Times       float64 `json:"times_saturation"`
	OfferedPerS float64 `json:"offered_per_s"`
	GoodPerS    float64 `json:"good_per_s"`
	// Shadowed is the share of decisions whose shadow was compared, [0,1]; Outcomes counts all outcomes.
	Shadowed float64           `json:"shadowed"`
	Outcomes map[string]uint64 `json:"outcomes"`
	// ServerCPU and LoadCPU are the number of CPUs that the executor and the load kept busy; 0 if the system does not report
	// it.
	ServerCPU float64 `json:"server_cpu"`
	LoadCPU   float64 `json:"load_cpu"`
	// Both are in milliseconds since the load began. LeftMS is the time of the last check without a shed shadow, RefusedAtMS
	// the time of the first refusal; negative if there was none.
	LeftMS      float64 `json:"shadow_left_ms"`
	RefusedAtMS float64 `json:"refused_ms"`
}

// Bad is a misbehaving client, and its effect on a well-behaved one.
type Bad struct {
	Client string `json:"client"`
	// Calls counts the calls of the well-behaved client while the other one ran. Of these, Lost were lost and Changed were
	// changed.
	Calls   int64        `json:"calls"`
	Lost    int64        `json:"lost"`
	Changed int64        `json:"changed"`
	Ratio   bench.Spread `json:"p99_ratio"`
	// Streams counts the streams opened by the misbehaving client, Refused those that were refused.
	Streams int64 `json:"streams"`
	Refused int64 `json:"refused"`
}

// levels are the offered loads, as multiples of saturation.
var levels = []float64{0.7, 1, 2, 5}

const (
	// goodputKept is the share of the peak goodput that must remain under overload.
	goodputKept = 0.90
	// overloadRecovery is the longest allowed recovery, in seconds.
	overloadRecovery = 1.0
	// The ramp grows by rampFactor. It ends after rampEnd consecutive loads that did not raise the goodput by rampGain.
	rampFactor, rampGain = 1.25, 1.02
	rampEnd, rampMost    = 2, 20
)

// overload runs both tests on a separate executor. calm is a light load, in decisions per second.
func (s *Stage) overload(ctx context.Context, calm float64, length time.Duration) (result *Overload, err error) {
	result = &Overload{}
	var e *Executor
	answers, asks, back, err := rig.Apart(func() (err error) {
		e, err = s.NewExecutor(ctx, ExecutorOptions{Name: "overload", Engine: s.Engine.Addr("grpc"), Percent: 100})
		return err
	}, s.Engine.PID())
	defer func() { err = errors.Join(err, back()) }()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.End()) }()
	result.ServerCPUs, result.LoadCPUs = answers, asks
	if err := e.AwaitShadow(ctx); err != nil {
		return nil, err
	}
	if err := e.warm(ctx); err != nil {
		return nil, err
	}
	before, err := e.Settle(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.loads(ctx, &result.Loads, e.flood, calm, length); err != nil {
		return nil, err
	}
	result.Streams = &Loads{}
	if err := e.loads(ctx, result.Streams, e.floodStreams, calm, length); err != nil {
		return nil, fmt.Errorf("streams: %w", err)
	}
	for _, bad := range []struct {
		name  string
		begin func(context.Context, *Executor) (*rude, error)
	}{
		{"reads no answer", deafClient},
		{"opens 10,000 streams of quotes", greedyClient(executorv1.DecisionService_ObserveQuotes_FullMethodName)},
		{"opens 10,000 streams of decisions", greedyClient(executorv1.DecisionService_Decide_FullMethodName)},
	} {
		if err := e.AwaitShadow(ctx); err != nil {
			return nil, err
		}
		b, err := e.beside(ctx, bad.begin, calm)
		if err != nil {
			return nil, fmt.Errorf("a client that %s: %w", bad.name, err)
		}
		b.Client = bad.name
		result.Clients = append(result.Clients, b)
	}
	after, err := e.Settle(ctx)
	if err != nil {
		return nil, err
	}
	// The calls of a flood are not counted here.
	result.Unaccounted = fleet.Unaccounted(before, after, int64(after.Requests-before.Requests), 0)
	return result, nil
}

// load requests decisions at a rate for a given time, whatever the answers.
type load func(ctx context.Context, rate float64, length time.Duration) (stats, error)

// loads measures the loads. calm is a rate that is easily answered.
func (e *Executor) loads(ctx context.Context, o *Loads, flood load, calm float64, length time.Duration) (err error) {
	if err := e.AwaitShadow(ctx); err != nil { // an earlier overload may have opened the breaker
		return err
	}
	if err := e.ramp(ctx, o, flood, calm, length/3); err != nil {
		return err
	}
	for _, times := range levels {
		if err := e.AwaitShadow(ctx); err != nil {
			return err
		}
		l, err := e.level(ctx, flood, times*o.SaturationPerS, length)
		if err != nil {
			return err
		}
		l.Times = times
		o.Levels = append(o.Levels, l)
		o.PeakPerS = max(o.PeakPerS, l.GoodPerS)
	}
	o.RecoveryS, err = e.recovers(ctx, flood, levels[len(levels)-1]*o.SaturationPerS, calm, length)
	return err
}

// ramp offers growing loads until the goodput no longer grows.
func (e *Executor) ramp(ctx context.Context, o *Loads, flood load, rate float64, length time.Duration) error {
	for worse := 0; worse < rampEnd; rate *= rampFactor {
		if len(o.Ramp) == rampMost {
			return fmt.Errorf("%.0f decisions a second do not saturate the executor: goodput is %.0f and still growing", rate/rampFactor, o.SaturationPerS)
		}
		l, err := e.level(ctx, flood, rate, length)
		if err != nil {
			return err
		}
		o.Ramp = append(o.Ramp, l)
		worse++
		if l.GoodPerS > rampGain*o.SaturationPerS {
			worse = 0
		}
		o.SaturationPerS = max(o.SaturationPerS, l.GoodPerS)
	}
	if o.SaturationPerS == 0 {
		return errors.New("overload: no decision was answered in time")
	}
	o.PeakPerS = o.SaturationPerS
	return nil
}

// level offers one load.
func (e *Executor) level(ctx context.Context, flood load, rate float64, length time.Duration) (Level, error) {
	var begin time.Time
	var none time.Duration // the last check without a shed shadow
	var sum stats
	d, err := e.during(ctx, func(before fleet.Counters) (err error) {
		begin = time.Now()
		stop := repeat(ctx, func(ctx context.Context) error {
			checked := time.Since(begin)
			if c, err := e.Counters(ctx); err == nil && left(c.Counts) == left(before.Counts) {
				none = checked
			}
			traffic.Pause(ctx, leftEvery)
			return nil
		})
		sum, err = flood(ctx, rate, length)
		return errors.Join(err, stop())
	})
	if err != nil {
		return Level{}, err
	}
	l := Level{
		Flood: sum.Flood, OfferedPerS: float64(sum.Due) / length.Seconds(), GoodPerS: float64(sum.Good) / length.Seconds(),
		ServerCPU: sum.server.Seconds() / length.Seconds(), LoadCPU: sum.load.Seconds() / length.Seconds(),
		LeftMS: -1, RefusedAtMS: -1,
	}
	if left(d) > 0 {
		l.LeftMS = 1e3 * none.Seconds()
	}
	if !sum.firstRefused.IsZero() {
		l.RefusedAtMS = 1e3 * sum.firstRefused.Sub(begin).Seconds()
	}
	if d.Requests > 0 {
		l.Shadowed = float64(d.Compared()) / float64(d.Requests)
	}
	l.Outcomes = seen(d)
	return l, nil
}

// leftEvery is the time between two checks for shed shadows.
const leftEvery = 5 * time.Millisecond

// left returns how many shadows were shed or came too late.
func left(c fleet.Counts) uint64 {
	return c.Of(shadow.Shed) + c.Of(shadow.BreakerOpen) + c.Of(shadow.Deadline)
}

// recovers overloads the executor, continues with a light load, and returns the time to recovery in seconds.
func (e *Executor) recovers(ctx context.Context, flood load, over, calm float64, length time.Duration) (float64, error) {
	const slot, limit = 100 * time.Millisecond, 5 * time.Second
	slots := make([]struct{ calls, bad atomic.Int64 }, limit/slot)
	var flooding errgroup.Group
	flooding.Go(func() error {
		_, err := flood(ctx, over, length)
		return err
	})
	// The flood waits one second for its last answers. The light load starts at the beginning of that second.
	traffic.Pause(ctx, length)
	begin := time.Now()
	_, err := bench.OpenLoop(ctx, calm, 3, limit-slot, func(ctx context.Context, i int) error {
		start := time.Now()
		before := e.calls.lost.Load()
		err := e.decide(ctx, i)
		s := &slots[min(int(start.Sub(begin)/slot), len(slots)-1)]
		s.calls.Add(1)
		if time.Since(start) > bench.GoodWithin || e.calls.lost.Load() != before {
			s.bad.Add(1)
		}
		return err
	})
	if err := errors.Join(err, flooding.Wait()); err != nil {
		return 0, err
	}
	for i := range slots {
		if slots[i].calls.Load() > 0 && slots[i].bad.Load() == 0 {
			return (time.Duration(i+1) * slot).Seconds(), nil
		}
	}
	return -1, nil
}

// A misbehaving client is connected and disconnected in besideRounds rounds of besideLength each.
const (
	besideRounds = 6
	besideLength = 500 * time.Millisecond
)

// beside measures a well-behaved client, alternately with and without the misbehaving one.
func (e *Executor) beside(ctx context.Context, begin func(context.Context, *Executor) (*rude, error), rate float64) (Bad, error) {
	var b Bad
	var ratios []float64
	for round := range besideRounds {
		var p99 [2]float64
		for i := range p99 {
			bad := (i+round)%2 == 1
			var r *rude
			if bad {
				var err error
				if r, err = begin(ctx, e); err != nil {
					return b, err
				}
			}
			sent, lost, changed := e.calls.sent.Load(), e.calls.lost.Load(), e.calls.changed.Load()
			s, err := bench.OpenLoop(ctx, rate, uint64(round), besideLength, e.decide)
			if r != nil {
				r.close()
				b.Streams, b.Refused = max(b.Streams, r.stats.Due), max(b.Refused, r.stats.Refused)
				b.Calls += e.calls.sent.Load() - sent
				b.Lost, b.Changed = b.Lost+e.calls.lost.Load()-lost, b.Changed+e.calls.changed.Load()-changed
			}
			if err != nil {
				return b, err
			}
			p99[map[bool]int{false: 0, true: 1}[bad]] = s.Quantile(99)
		}
		ratios = append(ratios, p99[1]/p99[0])
	}
	b.Ratio = bench.SpreadOf(ratios)
	return b, nil
}

// deafClient requests ten times as many decisions as a connection may have in flight, and reads no answer.
func deafClient(ctx context.Context, e *Executor) (*rude, error) {
	r, err := dialRude(ctx, e.Process.Addr("grpc"), true)
	if err != nil {
		return nil, err
	}
	message, err := frame(e.requests[0])
	if err == nil {
		err = r.conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	}
	if err != nil {
		r.close()
		return nil, err
	}
	for range 10_000 {
		if err = r.begin(executorv1.DecisionService_Predict_FullMethodName, message, begun{}); err != nil {
			break
		}
	}
	if err == nil {
		_ = r.flush()
	}
	return r, nil // whether or not the server has read everything
}

// greedyClient opens 10,000 streams of the method and leaves them open.
func greedyClient(method string) func(context.Context, *Executor) (*rude, error) {
	return func(ctx context.Context, e *Executor) (*rude, error) {
		r, err := dialRude(ctx, e.Process.Addr("grpc"), false)
		if err != nil {
			return nil, err
		}
		for range 10_000 {
			if err = r.begin(method, nil, begun{}); err != nil {
				break
			}
		}
		if err == nil {
			err = r.flush()
		}
		if err != nil {
			r.close()
			return nil, err
		}
		return r, nil
	}
}
