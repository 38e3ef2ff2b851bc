package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

// trial is one fault on its way.
type trial struct {
	stage   *Stage
	off, on *Executor
	names   *NameServer // of the fault that needs one
	rate    float64
	rounds  int
	length  time.Duration // of a slice
	bulk    int64         // decisions of the executor with a shadow after the slices
	began   atomic.Int64  // Unix nanoseconds; the fault's
	// afterwards, which the end of a fault may set, tidies up once executor has recovered.
	afterwards func(context.Context) error
}

const (
	// recoveryRate is the load, decisions a second, at which recovery is watched.
	recoveryRate = 400
	// recoveryLimit is how long it is waited for.
	recoveryLimit = 90 * time.Second
	// bulkLength is how long the load of many goes on before it is seen whether it was enough.
	bulkLength = 200 * time.Millisecond
	// recoveredShare of the shadows that were compared before must be compared again.
	recoveredShare = 0.95
)

// Row is what a fault did.
type Row struct {
	Fault string `json:"fault"`
	// Asked are the decisions of both executors, Streamed those of them over streams.
	// Identical says that both executors gave the same answers to the same requests.
	Asked
	Streamed  Asked  `json:"streamed"`
	Identical bool   `json:"identical"`
	Why       string `json:"why,omitempty"`
	// Unaccounted are requests without exactly one outcome.
	Unaccounted int64 `json:"unaccounted"`
	// Outcomes of the executor with a shadow, recovery included.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Lies is how many answers of ml-engine the fault changed; nil for a fault that changes none.
	Lies *int64 `json:"lies,omitempty"`
	// P99 is of decisions.
	P99 Ratio `json:"p99"`
	// FaultS is how long the fault lasted, Breaker what the breaker did since it began.
	FaultS  float64  `json:"fault_s"`
	Breaker Timeline `json:"breaker"`
	// RecoveryS is from the end of the fault until the breaker was closed and shadows were compared as before, in seconds;
	// negative when that was not seen. MatchBefore and MatchAfter are match rates of a healthy segment before and of the
	// last look.
	RecoveryS   float64 `json:"recovery_s"`
	MatchBefore float64 `json:"match_rate_before"`
	MatchAfter  float64 `json:"match_rate_after"`
	// Before and After are of the executor with a shadow.
	Before Resources `json:"before"`
	After  Resources `json:"after"`
}

// mark is a reading of the counters of an executor, and of those kept here.
type mark struct {
	counters      fleet.Counters
	all, streamed Asked
}

func (e *Executor) mark(ctx context.Context) (mark, error) {
	c, err := e.Settle(ctx)
	all, streamed := e.asked()
	return mark{c, all, streamed}, err
}

// run lets the fault loose under load, ends it, and waits for recovery.
func (t *trial) run(ctx context.Context, f Fault) (row Row, err error) {
	row.Fault = f.Name
	t.on.calls.why.Store(nil)
	t.off.calls.why.Store(nil)
	var before, after [2]mark
	sides := []*Executor{t.off, t.on}
	for i, e := range sides {
		if before[i], err = e.mark(ctx); err != nil {
			return row, err
		}
	}
	if err = t.stage.prepare(ctx, f); err != nil {
		return row, err
	}
	if row.MatchBefore, err = t.healthy(ctx); err != nil {
		return row, err
	}
	if row.Before, err = t.on.Resources(ctx); err != nil {
		return row, err
	}
	// While the breaker is open, no shadow meets the fault.
	if err := t.on.AwaitShadow(ctx); err != nil {
		return row, err
	}
	end, stop, err := t.loaded(ctx, f, &row)
	if err != nil {
		return row, errors.Join(err, end(context.WithoutCancel(ctx)))
	}
	if f.through {
		n := t.stage.relay.Changed()
		row.Lies = &n
	}
	if err := end(ctx); err != nil {
		return row, fmt.Errorf("end of %s: %w", f.Name, err)
	}
	row.FaultS = time.Since(t.start()).Seconds()
	if err := t.recover(ctx, &row); err != nil {
		return row, err
	}
	row.Breaker = stop()
	if t.afterwards != nil {
		if err := t.afterwards(ctx); err != nil {
			return row, err
		}
	}
	for i, e := range sides {
		if after[i], err = e.mark(ctx); err != nil {
			return row, err
		}
		all := after[i].all.minus(before[i].all)
		row.Asked = row.plus(all)
		row.Streamed = row.Streamed.plus(after[i].streamed.minus(before[i].streamed))
		row.Unaccounted += fleet.Unaccounted(before[i].counters, after[i].counters, all.Requests, all.Lost)
		if e == t.on {
			d, err := fleet.Delta(before[i].counters, after[i].counters, fleet.Refuse)
			if err != nil {
				return row, err
			}
			row.Outcomes = seen(d)
		}
		if why := e.calls.why.Load(); why != nil {
			row.Why = *why
		}
	}
	row.After, err = t.on.Resources(ctx)
	return row, err
}

func (t *trial) start() time.Time { return time.Unix(0, t.began.Load()) }

// healthy takes the match rate without the fault.
func (t *trial) healthy(ctx context.Context) (float64, error) {
	if err := t.on.AwaitShadow(ctx); err != nil {
		return 0, err
	}
	before, err := t.on.Settle(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := bench.OpenLoop(ctx, recoveryRate, 1, time.Second, t.on.decideBothWays); err != nil {
		return 0, err
	}
	after, err := t.on.Settle(ctx)
	if err != nil {
		return 0, err
	}
	d, err := fleet.Delta(before, after, fleet.Refuse)
	if err != nil {
		return 0, err
	}
	if d.Compared() == 0 {
		return 0, fmt.Errorf("%s: no shadow is compared before the fault: %v", t.on.Name, after.Outcomes)
	}
	return matchRate(d), nil
}

// loaded lets the fault loose during the first slice, which is of the executor with a shadow, measures all slices, and asks for
// many more decisions as fast as they are answered. It returns what ends the fault, and what ends the watch over the breaker;
// end can be called in any case.
func (t *trial) loaded(ctx context.Context, f Fault, row *Row) (end func(context.Context) error, stop func() Timeline, err error) {
	end = func(context.Context) error { return nil }
	begin := func() (err error) {
		t.began.Store(time.Now().UnixNano())
		e, err := f.begin(ctx, t)
		if e != nil {
			end = e
		}
		return err
	}
	t.began.Store(time.Now().UnixNano())
	began := make(chan error, 1)
	if f.both {
		if err := begin(); err != nil {
			return end, nil, err
		}
		began <- nil
	} else {
		go func() {
			traffic.Pause(ctx, t.length/4)
			began <- begin()
		}()
	}
	stop = watchBreaker(ctx, t.on, t.off, t.start)
	err = t.sliced(ctx, row, began)
	for start, _ := t.on.asked(); err == nil; {
		if now, _ := t.on.asked(); now.minus(start).Requests >= t.bulk {
			break
		}
		_, err = bench.ClosedLoop(ctx, underWay, bulkLength, t.on.decideBothWays)
	}
	if err != nil {
		stop()
	}
	return end, stop, err
}

// sliced measures both executors in turn, on, off, off, on, and so on; within a round both get the same requests at the same
// times. The error of began, which comes in the first slice, ends it.
func (t *trial) sliced(ctx context.Context, row *Row, began <-chan error) error {
	row.Identical = true
	var on, off latencies
	for round := range t.rounds {
		sides := []*Executor{t.on, t.off}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		var sums [2]uint64
		for i, e := range sides {
			before := e.calls.sum.Load()
			s, err := bench.OpenLoop(ctx, t.rate, uint64(round), t.length, e.decideBothWays)
			if round == 0 && i == 0 {
				err = errors.Join(err, <-began)
			}
			if err != nil {
				return err
			}
			sums[i] = e.calls.sum.Load() - before
			if e == t.on {
				on.add(round/blockRounds, s.Latency)
			} else {
				off.add(round/blockRounds, s.Latency)
			}
		}
		row.Identical = row.Identical && sums[0] == sums[1]
	}
	var err error
	row.P99, err = ratioOf(&on, &off, t.rounds)
	return err
}

// recover waits under slow load until shadows are compared as before.
func (t *trial) recover(ctx context.Context, row *Row) error {
	ended := time.Now()
	row.RecoveryS = -1
	loading, cancel := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		// Its error is that it was ended; what becomes of decisions is counted.
		_, _ = bench.OpenLoop(loading, recoveryRate, 2, 2*recoveryLimit, func(ctx context.Context, i int) error {
			// The call under way when the load ends is still answered.
			return t.on.decideBothWays(context.WithoutCancel(ctx), i)
		})
	}()
	defer func() {
		cancel()
		<-loaded
	}()
	last, err := t.on.Counters(ctx)
	if err != nil {
		return err
	}
	for time.Since(ended) < recoveryLimit {
		if !traffic.Pause(ctx, lookEvery) {
			return ctx.Err()
		}
		now, err := t.on.Counters(ctx)
		if err != nil {
			return err
		}
		d, err := fleet.Delta(last, now, fleet.Refuse)
		if err != nil {
			return err
		}
		last = now
		n := d.Compared()
		if n == 0 {
			continue
		}
		row.MatchAfter = matchRate(d)
		if now.Breaker == executorv1.BreakerState_BREAKER_STATE_CLOSED &&
			float64(n) >= recoveredShare*float64(d.Ended()) && row.MatchAfter >= row.MatchBefore-0.05 {
			row.RecoveryS = time.Since(ended).Seconds()
			return nil
		}
	}
	return nil
}

// matchRate returns the share of the comparisons that matched.
func matchRate(c fleet.Counts) float64 { return float64(c.Of(shadow.Match)) / float64(c.Compared()) }

// seen returns the outcomes that occurred.
func seen(c fleet.Counts) map[string]uint64 {
	maps.DeleteFunc(c.Outcomes, func(_ string, n uint64) bool { return n == 0 })
	return c.Outcomes
}
