package shadow

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/greenlight-ml/greenlight/pkg/stats"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// BreakerOptions configures a [Breaker].
type BreakerOptions struct {
	// MaxErrorRate is the share of failed predictions in the window above which the breaker opens, in (0,1).
	MaxErrorRate float64
	// Window is the length of the rolling window, which is kept in 60 buckets.
	Window time.Duration
	// MinRequests is how many predictions the window must hold before the rate is judged. Below it the breaker is
	// blind, except for MaxConsecutive.
	MinRequests uint32
	// MaxConsecutive is how many consecutive failures open the breaker, whatever the rate.
	MaxConsecutive uint32
	// Confidence, if > 0, also requires the lower bound of the error rate's Wilson interval to exceed MaxErrorRate.
	// It is one-sided, for example 0.99. Without it, a true error rate of 1 % occasionally trips the breaker by chance.
	Confidence float64
	// OpenFor is how long the breaker stays open the first time. Each failed probe doubles it, up to MaxOpenFor, minus a
	// random part of up to a quarter so that replicas do not probe in step. A recovery of ml-engine resets it.
	OpenFor, MaxOpenFor time.Duration
	// Probes is how many predictions the half-open state allows. As many successes in a row close the breaker.
	Probes uint32
	// Logger receives every change of state. Required.
	Logger *slog.Logger
}

// DefaultBreakerOptions opens the breaker at more than 2 % failures of at least 100 predictions in 60 s, or at 10 in a row.
func DefaultBreakerOptions() BreakerOptions {
	return BreakerOptions{
		MaxErrorRate: 0.02, Window: time.Minute, MinRequests: 100, MaxConsecutive: 10,
		OpenFor: 15 * time.Second, MaxOpenFor: 240 * time.Second, Probes: 5,
	}
}

// Validate returns an error for the first option that is out of range.
func (o BreakerOptions) Validate() error {
	switch {
	case !(o.MaxErrorRate > 0 && o.MaxErrorRate < 1): // NaN too
		return fmt.Errorf("breaker error rate %v: want a share in (0,1)", o.MaxErrorRate)
	case o.Window < time.Second:
		return fmt.Errorf("breaker window %v: want at least 1s", o.Window)
	case o.MinRequests == 0:
		return errors.New("breaker min requests 0: want at least 1")
	case o.MaxConsecutive == 0:
		return errors.New("breaker max consecutive failures 0: want at least 1")
	case o.Confidence != 0 && !(o.Confidence >= 0.5 && o.Confidence < 1):
		return fmt.Errorf("breaker confidence %v: want 0 (off) or a confidence in [0.5,1)", o.Confidence)
	case o.OpenFor <= 0 || o.MaxOpenFor < o.OpenFor:
		return fmt.Errorf("breaker open for %v up to %v: want 0 < first <= longest", o.OpenFor, o.MaxOpenFor)
	case o.Probes == 0:
		return errors.New("breaker probes 0: want at least 1")
	}
	return nil
}

// Breaker is the circuit breaker in front of ml-engine. It is gobreaker's state machine over predictions, not calls, with
// backoff on top, since gobreaker's own open time is fixed.
//
// gobreaker moves from open to half-open only when it is asked. So after gobreaker's open time, which is the minimum,
// Breaker keeps refusing until the backoff has passed or ml-engine is known to have recovered (see skipBackoff).
type Breaker struct {
	opts  BreakerOptions
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}]
	start time.Time
	z     float64
	// backoffEnd is when probes may begin, in nanoseconds since start; 0 while the breaker is not open. It is written
	// in OnStateChange, which runs under gobreaker's lock, so that it changes together with the state.
	backoffEnd atomic.Int64
	// opened is when the breaker last opened, in nanoseconds since start.
	opened   atomic.Int64
	reopened atomic.Int32
	trips    atomic.Uint64
	// trip is why the breaker opened; nil while it is closed.
	trip atomic.Pointer[BreakerTrip]
}

// BreakerTrip records when and why a breaker opened.
type BreakerTrip struct {
	Time   time.Time
	Reason string
	// Successes and Failures count the predictions in the window at that time, Consecutive the last failures in a row.
	Successes, Failures, Consecutive uint32
}

// NewBreaker returns a closed breaker.
func NewBreaker(opts BreakerOptions) (*Breaker, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	b := &Breaker{opts: opts, start: time.Now()}
	if opts.Confidence > 0 {
		b.z = stats.NormalQuantile(opts.Confidence)
	}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         "ml-engine",
		MaxRequests:  opts.Probes,
		Interval:     opts.Window,
		BucketPeriod: opts.Window / 60,
		Timeout:      opts.OpenFor,
		ReadyToTrip:  b.readyToTrip,
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, errExcluded) },
		// Reading the breaker here would deadlock, and its counts are already cleared.
		OnStateChange: func(_ string, from, to gobreaker.State) { b.onStateChange(from, to) },
	})
	return b, nil
}

// gobreaker knows only errors, so the verdict on a prediction is one of these or nil.
var (
	errExcluded = errors.New("neither success nor failure")
	errFailed   = errors.New("failed")
)

// Allow asks for permission to send one prediction. It returns nil if the prediction must not be sent. Otherwise the
// caller must call done once with the verdict on the prediction.
func (b *Breaker) Allow() (done func(error)) {
	if _, waiting := b.backingOff(); waiting {
		return nil
	}
	done, err := b.cb.Allow()
	if err != nil {
		return nil
	}
	return done
}

// verdict translates an outcome for the breaker.
func verdict(o Outcome) error {
	switch {
	case o.Compared():
		return nil
	case o.trips():
		return errFailed
	default:
		return errExcluded
	}
}

// backingOff reports whether the backoff is still running, and when it ends.
func (b *Breaker) backingOff() (until time.Time, waiting bool) {
	nanos := b.backoffEnd.Load()
	return b.start.Add(time.Duration(nanos)), nanos != 0 && int64(time.Since(b.start)) < nanos
}

// skipBackoff allows probes again once OpenFor has passed. Call it when ml-engine is known to have recovered: after a long
// outage the backoff has grown to minutes. An engine that flaps is still probed at most once per OpenFor.
func (b *Breaker) skipBackoff() {
	earliest := b.opened.Load() + int64(b.opts.OpenFor)
	end := b.backoffEnd.Load()
	if end <= earliest { // also when it is not open
		return
	}
	// If the state has changed since the load, the recovery belongs to an earlier opening and the swap fails.
	if b.backoffEnd.CompareAndSwap(end, earliest) {
		b.opts.Logger.Info("breaker skips the rest of its backoff: ml-engine has recovered", "sooner_by", time.Duration(end-earliest))
	}
}

// BreakerStatus is a reading of a breaker.
type BreakerStatus struct {
	State executorv1.BreakerState
	// Blind is set while the window holds too few predictions to be judged by rate.
	Blind bool
	// Successes and Failures count the predictions in the window, or since the last state change if that is more recent.
	Successes, Failures uint32
	// Trips is how often the breaker has opened.
	Trips uint64
	// NextProbe is when probes may begin; zero unless the breaker is open.
	NextProbe time.Time
	// Trip is why it opened, nil while it is closed; Reopened is how often a probe has failed since.
	Trip     *BreakerTrip
	Reopened int32
}

// Status reads the breaker. Like any reading, it may move the breaker from open to half-open.
func (b *Breaker) Status() BreakerStatus {
	s := b.state()
	s.Trips = b.trips.Load()
	s.Trip, s.Reopened = b.trip.Load(), b.reopened.Load() // after the state: the trip is stored before the state changes
	return s
}

func (b *Breaker) state() (s BreakerStatus) {
	if until, waiting := b.backingOff(); waiting {
		s.State, s.Blind, s.NextProbe = executorv1.BreakerState_BREAKER_STATE_OPEN, true, until
		return s
	}
	switch b.cb.State() {
	case gobreaker.StateClosed:
		s.State = executorv1.BreakerState_BREAKER_STATE_CLOSED
	case gobreaker.StateHalfOpen:
		s.State = executorv1.BreakerState_BREAKER_STATE_HALF_OPEN
	case gobreaker.StateOpen:
		s.State = executorv1.BreakerState_BREAKER_STATE_OPEN
	}
	c := b.cb.Counts()
	s.Successes, s.Failures = c.TotalSuccesses, c.TotalFailures
	s.Blind = c.TotalSuccesses+c.TotalFailures < b.opts.MinRequests
	return s
}

// readyToTrip is called by gobreaker only when a prediction fails. So an excessive rate can go unnoticed if a success brought
// the window to MinRequests, or if successes left the window before failures did. The next failure then opens the breaker:
// at most one more prediction is at risk than the rule allows.
func (b *Breaker) readyToTrip(c gobreaker.Counts) bool {
	var reason string
	n := c.TotalSuccesses + c.TotalFailures
	switch {
	case c.ConsecutiveFailures >= b.opts.MaxConsecutive:
		reason = "failures in a row"
	case n >= b.opts.MinRequests && b.rateTooHigh(c.TotalFailures, n):
		reason = "error rate"
	default:
		return false
	}
	// The state change that follows clears the counts.
	b.trip.Store(&BreakerTrip{
		Time: time.Now(), Reason: reason,
		Successes: c.TotalSuccesses, Failures: c.TotalFailures, Consecutive: c.ConsecutiveFailures,
	})
	b.opts.Logger.Warn("breaker opens", "reason", reason, "failures", c.TotalFailures, "successes", c.TotalSuccesses,
		"consecutive_failures", c.ConsecutiveFailures, "window", b.opts.Window)
	return true
}

func (b *Breaker) rateTooHigh(failures, n uint32) bool {
	if float64(failures)/float64(n) <= b.opts.MaxErrorRate {
		return false
	}
	if b.opts.Confidence == 0 {
		return true
	}
	low, _ := stats.Wilson(uint64(failures), uint64(n), b.z)
	return low > b.opts.MaxErrorRate
}

func (b *Breaker) onStateChange(from, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		b.trips.Add(1)
		wait := b.opts.OpenFor
		if from == gobreaker.StateHalfOpen {
			wait = b.backoff(b.reopened.Add(1))
		}
		now := time.Since(b.start)
		b.opened.Store(int64(now))
		b.backoffEnd.Store(int64(now + wait))
		b.opts.Logger.Warn("breaker is open", "probe_in", wait)
	case gobreaker.StateHalfOpen:
		b.backoffEnd.Store(0)
		b.opts.Logger.Info("breaker is half-open", "probes", b.opts.Probes)
	case gobreaker.StateClosed:
		b.reopened.Store(0)
		b.trip.Store(nil)
		b.opts.Logger.Info("breaker is closed")
	}
}

// backoff is how long the n-th reopening in a row lasts, n >= 1.
func (b *Breaker) backoff(n int32) time.Duration {
	wait := b.opts.OpenFor
	for range n {
		if wait >= b.opts.MaxOpenFor/2 {
			wait = b.opts.MaxOpenFor
			break
		}
		wait *= 2
	}
	return wait - time.Duration(rand.Float64()*float64(wait)/4)
}
