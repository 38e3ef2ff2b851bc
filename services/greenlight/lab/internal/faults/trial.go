package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/netfault"
)

// trial is one fault being measured.
type trial struct {
	stage   *Stage
	off, on *Executor
	names   *netfault.NameServer // for faults that need one
	rate    float64
	rounds  int
	length  time.Duration // of a slice
	bulk    int64         // decisions of the executor with a shadow after the slices
	began   atomic.Int64  // start of the fault, in Unix nanoseconds
	// afterwards, if set, cleans up after executor has recovered. The end of a fault may set it.
	afterwards func(context.Context) error
}

const (
	// recoveryRate is the load during recovery, in decisions per second.
	recoveryRate = 400
	// recoveryLimit is the longest wait for recovery.
	recoveryLimit = 90 * time.Second
	// bulkLength is how long the bulk load runs between two checks of whether it has sent enough.
	bulkLength = 200 * time.Millisecond
	// recoveredShare is the share of the earlier compared shadows that must be compared again.
	recoveredShare = 0.95
)

// Row is the result of one fault.
type Row struct {
	Fault string `json:"fault"`
	// Asked counts the decisions of both executors, Streamed those of them over streams. Identical reports whether both
	// executors gave the same answers to the same requests.
	Asked
	Streamed  Asked  `json:"streamed"`
	Identical bool   `json:"identical"`
	Why       string `json:"why,omitempty"`
	// Unaccounted counts requests without exactly one outcome.
	Unaccounted int64 `json:"unaccounted"`
	// Outcomes counts the outcomes of the executor with a shadow, including the recovery.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Lies is the number of ml-engine's answers that the fault changed; nil for a fault that changes none.
	Lies *int64 `json:"lies,omitempty"`
	// Gate holds the decisions behind the gate; nil without one.
	Gate *Gate `json:"gate,omitempty"`
	// P99 compares the p99 of decisions. Behind a gate, the wait budget is added to the executor without a shadow.
	P99 Ratio `json:"p99"`
	// FaultS is the length of the fault, in seconds; Breaker lists the breaker's states since it started.
	FaultS  float64  `json:"fault_s"`
	Breaker Timeline `json:"breaker"`
	// RecoveryS is the time in seconds from the end of the fault until the breaker was closed and shadows were compared as
	// before; negative if that did not happen. MatchBefore is the match rate of a healthy segment before the fault, MatchAfter
	// that of the last poll.
	RecoveryS   float64 `json:"recovery_s"`
	MatchBefore float64 `json:"match_rate_before"`
	MatchAfter  float64 `json:"match_rate_after"`
	// Before and After are the resources of the executor with a shadow.
	Before Resources `json:"before"`
	After  Resources `json:"after"`
}

// mark is a snapshot of the counters of an executor and of this client.
type mark struct {
	counters      fleet.Counters
	all, streamed Asked
	gate          gateMark
}

func (e *Executor) mark(ctx context.Context) (mark, error) {
	c, err := e.Settle(ctx)
	if err != nil {
		return mark{}, err
	}
	all, streamed := e.asked()
	g, err := e.gateMark(ctx)
	return mark{c, all, streamed, g}, err
}

// run injects the fault under load, ends it, and waits for recovery.
func (t *trial) run(ctx context.Context, f Fault) (row Row, err error) {
	row.Fault = f.Name
	t.on.calls.why.Store(nil)
	t.off.calls.why.Store(nil)
	var before, after [2]mark
	sides := []*Executor{t.off, t.on}
	if t.on.guard != nil {
		row.Gate = &Gate{}
		t.on.guard.lies.Store(f.through)
	}
	if err := t.on.OpenGate(ctx); err != nil { // good for another hour
		return row, err
	}
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
			if row.Gate != nil {
				row.Gate.between(before[i].gate, after[i].gate, d.Requests, all.Lost)
			}
		}
		if why := e.calls.why.Load(); why != nil {
			row.Why = *why
		}
	}
	row.After, err = t.on.Resources(ctx)
	return row, err
}

func (t *trial) start() time.Time { return time.Unix(0, t.began.Load()) }

// healthy measures the match rate without the fault.
func (t *trial) healthy(ctx context.Context) (float64, error) {
	if err := t.on.AwaitShadow(ctx); err != nil {
		return 0, err
	}
	d, err := t.on.during(ctx, func(fleet.Counters) error {
		_, err := bench.OpenLoop(ctx, recoveryRate, 1, time.Second, t.on.decideBothWays)
		return err
	})
	if err != nil {
		return 0, err
	}
	if d.Compared() == 0 {
		return 0, fmt.Errorf("%s: no shadow is compared before the fault: %v", t.on.Name, d.Outcomes)
	}
	return matchRate(d), nil
}

// during returns what the executor counted while do ran.
func (e *Executor) during(ctx context.Context, do func(before fleet.Counters) error) (fleet.Counts, error) {
	before, err := e.Settle(ctx)
	if err == nil {
		err = do(before)
	}
	if err != nil {
		return fleet.Counts{}, err
	}
	after, err := e.Settle(ctx)
	if err != nil {
		return fleet.Counts{}, err
	}
	return fleet.Delta(before, after, fleet.Refuse)
}

// loaded injects the fault during the first slice, which belongs to the executor with a shadow. It measures all slices, and
// then requests many more decisions as fast as they are answered. end ends the fault and may always be called; the other
// function ends the polling of the breaker.
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

// sliced measures both executors alternately: on, off, off, on, and so on. Within a round both get the same requests at the
// same times. It stops if began, which is called in the first slice, returns an error.
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
				t.stage.alone = max(t.stage.alone, time.Duration(s.Latency.Max()))
			}
		}
		row.Identical = row.Identical && sums[0] == sums[1]
	}
	if row.Gate != nil {
		row.Gate.slices = &on
		off.plus = int64(waitBudget)
	}
	var err error
	row.P99, err = ratioOf(&on, &off, t.rounds)
	return err
}

// recover waits under a light load until shadows are compared as before.
func (t *trial) recover(ctx context.Context, row *Row) error {
	ended := time.Now()
	row.RecoveryS = -1
	loading, cancel := context.WithCancel(ctx)
	var load sync.WaitGroup
	load.Go(func() {
		// Its only error is cancellation; the results of decisions are counted.
		_, _ = bench.OpenLoop(loading, recoveryRate, 2, 2*recoveryLimit, func(ctx context.Context, i int) error {
			// The call in flight when the load ends is still answered.
			return t.on.decideBothWays(context.WithoutCancel(ctx), i)
		})
	})
	defer load.Wait()
	defer cancel()
	last, err := t.on.Counters(ctx)
	if err != nil {
		return err
	}
	for time.Since(ended) < recoveryLimit {
		byModel := t.on.guard.byModel()
		if !traffic.Pause(ctx, pollEvery) {
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
			float64(n) >= recoveredShare*float64(d.Ended()) && row.MatchAfter >= row.MatchBefore-0.05 && t.on.guard.decides(byModel) {
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
