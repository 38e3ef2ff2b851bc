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
	// Window is the length of the rolling window, counted in buckets of a sixtieth of it.
	Window time.Duration
	// MinRequests is how many predictions the window must hold before the rate is judged. Below it the breaker is
	// blind, except for MaxConsecutive.
	MinRequests uint32
	// MaxConsecutive opens the breaker after so many failed predictions in a row, whatever the rate.
	MaxConsecutive uint32
	// Confidence, when > 0, also requires the lower end of the Wilson interval of the error rate to lie above
	// MaxErrorRate. The value is the one-sided confidence, for example 0.99. At a true rate of 1 % a rolling look
	// without it trips now and then by chance.
	Confidence float64
	// OpenFor is how long the breaker stays open the first time; each reopening from half-open doubles it, less up to
	// a quarter by chance so that replicas do not probe in step, up to MaxOpenFor. It is OpenFor again when ml-engine is
	// seen to be back.
	OpenFor, MaxOpenFor time.Duration
	// Probes is how many predictions half-open lets through; as many successes in a row close the breaker.
	Probes uint32
	// Logger gets every change of state. Required.
	Logger *slog.Logger
}

// DefaultBreakerOptions are the design's: more than 2 % of at least 100 predictions in 60 s, or 10 in a row.
func DefaultBreakerOptions() BreakerOptions {
	return BreakerOptions{
		MaxErrorRate: 0.02, Window: time.Minute, MinRequests: 100, MaxConsecutive: 10,
		OpenFor: 15 * time.Second, MaxOpenFor: 240 * time.Second, Probes: 5,
	}
}

// Validate reports the first option that makes no sense.
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

// Breaker is the circuit breaker in front of ml-engine: gobreaker's state machine over predictions, not calls, with a
// backoff on top, since gobreaker's own open time is fixed.
//
// gobreaker goes from open to half-open only when it is asked, so after its own open time, the shortest there is,
// calls are held back here until the backoff has passed, or until ml-engine is known to have recovered (see skipBackoff).
type Breaker struct {
	opts  BreakerOptions
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}]
	start time.Time
	z     float64
	// heldUntil is when probes may begin, as nanoseconds since start; 0 while the breaker is not open. It is written
	// in OnStateChange, which runs under gobreaker's lock, so that it changes together with the state.
	heldUntil atomic.Int64
	// opened is when it opened last, likewise.
	opened   atomic.Int64
	reopened atomic.Int32
	trips    atomic.Uint64
	// trip is what opened it; nil while it is closed.
	trip atomic.Pointer[BreakerTrip]
}

// BreakerTrip says when and why a breaker opened.
type BreakerTrip struct {
	Time   time.Time
	Reason string
	// Successes and Failures are the predictions in the window then, Consecutive the failures in a row.
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
		// Reading the breaker in here would deadlock, and its counts are already cleared.
		OnStateChange: func(_ string, from, to gobreaker.State) { b.onStateChange(from, to) },
	})
	return b, nil
}

// What a prediction tells gobreaker, which knows only errors.
var (
	errExcluded = errors.New("neither success nor failure")
	errFailed   = errors.New("failed")
)

// Allow asks to send one prediction. It returns the function that must be called once with the prediction's outcome, or
// nil when the prediction must not be sent.
func (b *Breaker) Allow() (done func(error)) {
	if _, held := b.held(); held {
		return nil
	}
	done, err := b.cb.Allow()
	if err != nil {
		return nil
	}
	return done
}

// verdict is what the outcome of a prediction tells the breaker.
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

// held reports whether the backoff has not passed yet, and when it will have.
func (b *Breaker) held() (until time.Time, held bool) {
	nanos := b.heldUntil.Load()
	return b.start.Add(time.Duration(nanos)), nanos != 0 && int64(time.Since(b.start)) < nanos
}

// skipBackoff allows probes again once OpenFor has passed. Call it when ml-engine is known to have recovered: after a long
// outage the backoff has grown to minutes. An engine that comes and goes is still probed once in OpenFor at most.
func (b *Breaker) skipBackoff() {
	earliest := b.opened.Load() + int64(b.opts.OpenFor)
	held := b.heldUntil.Load()
	if held <= earliest { // also when it is not open
		return
	}
	// Only the value that was read is replaced: if the state has changed meanwhile, the news was of an earlier opening.
	if b.heldUntil.CompareAndSwap(held, earliest) {
		b.opts.Logger.Info("breaker probes early: ml-engine is back", "sooner_by", time.Duration(held-earliest))
	}
}

// BreakerStatus is a reading of a breaker.
type BreakerStatus struct {
	State executorv1.BreakerState
	// Blind says that the window holds too few predictions to be judged by rate.
	Blind bool
	// Successes and Failures are the predictions in the window (since the last change of state, if that is shorter).
	Successes, Failures uint32
	// Trips is how often the breaker has opened.
	Trips uint64
	// NextProbe is when probes may begin; zero unless the breaker is open.
	NextProbe time.Time
	// Trip is what opened it, nil while it is closed; Reopened is how often a probe has failed since.
	Trip     *BreakerTrip
	Reopened int32
}

// Status reads the breaker. It may move it from open to half-open, as any reading does.
func (b *Breaker) Status() BreakerStatus {
	s := b.state()
	s.Trips = b.trips.Load()
	s.Trip, s.Reopened = b.trip.Load(), b.reopened.Load() // after the state: what opened it is known before it is open
	return s
}

func (b *Breaker) state() (s BreakerStatus) {
	if until, held := b.held(); held {
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

// readyToTrip is asked by gobreaker when a prediction fails, and only then. A success lowers the rate, so it can be too high
// without having been judged in two cases alone: a success was the one that made the window large enough, or successes
// have left the window sooner than failures. Then the next failure opens the breaker: at most one prediction more is
// risked than the rule says, and none if all is well from then on.
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
	// The change of state that follows clears the counts.
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
		hold := b.opts.OpenFor
		if from == gobreaker.StateHalfOpen {
			hold = b.backoff(b.reopened.Add(1))
		}
		now := time.Since(b.start)
		b.opened.Store(int64(now))
		b.heldUntil.Store(int64(now + hold))
		b.opts.Logger.Warn("breaker is open", "probe_in", hold)
	case gobreaker.StateHalfOpen:
		b.heldUntil.Store(0)
		b.opts.Logger.Info("breaker is half-open", "probes", b.opts.Probes)
	case gobreaker.StateClosed:
		b.reopened.Store(0)
		b.trip.Store(nil)
		b.opts.Logger.Info("breaker is closed")
	}
}

// backoff is how long the n-th reopening in a row lasts, n >= 1.
func (b *Breaker) backoff(n int32) time.Duration {
	hold := b.opts.OpenFor
	for range n {
		if hold >= b.opts.MaxOpenFor/2 {
			hold = b.opts.MaxOpenFor
			break
		}
		hold *= 2
	}
	return hold - time.Duration(rand.Float64()*float64(hold)/4)
}
