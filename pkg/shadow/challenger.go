package shadow

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// MaxChallengers is how many challengers a dispatcher may have.
const MaxChallengers = 8

// ChallengerOptions configures a challenger: another model that gets every sampled request. It has the dispatcher's limits,
// but a quarter of its queue and one call in flight.
type ChallengerOptions struct {
	// Name is the challenger's name in metrics, logs and reports. See [CheckChallenger].
	Name string
	// Engine is the client of its ml-engine. Required.
	Engine mlenginev1.ScoringServiceClient
	// SameEngine reports whether this is the ml-engine of the model under trial. Then any two scores with one digest are an
	// A/A test, even if the digest is empty.
	SameEngine bool
	// OnSettled is like [Options].OnSettled, for the sampled requests of this challenger.
	OnSettled func(Request, Result)
}

var challengerName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// CheckChallenger returns an error unless the name is valid for a challenger and different from the others.
func CheckChallenger(name string, others []string) error {
	switch {
	case !challengerName.MatchString(name):
		return fmt.Errorf("challenger %q: want a name of 1 to 32 lower-case letters, digits and dashes", name)
	case slices.Contains(others, name):
		return fmt.Errorf("challenger %q is given twice: give each a different name", name)
	case len(others) >= MaxChallengers:
		return fmt.Errorf("challenger %q is one too many: want at most %d", name, MaxChallengers)
	}
	return nil
}

func checkChallengers(all []ChallengerOptions) error {
	var names []string
	for _, c := range all {
		if err := CheckChallenger(c.Name, names); err != nil {
			return err
		}
		if c.Engine == nil {
			return fmt.Errorf("challenger %q: engine is required", c.Name)
		}
		names = append(names, c.Name)
	}
	return nil
}

// A challenger must not cost the model under trial anything. So it is shed sooner, and the last of several challengers is shed
// first. Challenger i of 0 to 7 is shed when work has waited for a processor for (8-i)/9 of [busyQueue], or when the queue of
// the model under trial holds more than 8-i full batches.
type challenger struct {
	*Dispatcher

	sameEngine  bool
	maxStanding time.Duration
	maxWaiting  int
}

// newChallenger starts challenger i of the model under trial.
func newChallenger(trial Options, i int) (*challenger, error) {
	c, opts, share := trial.Challengers[i], trial, MaxChallengers-i
	opts.Engine, opts.OnSettled, opts.Challengers = c.Engine, c.OnSettled, nil
	opts.QueueSize, opts.MaxInFlight = max(1, trial.QueueSize/4), 1
	opts.Logger, opts.Breaker.Logger = trial.Logger.With("challenger", c.Name), trial.Breaker.Logger.With("challenger", c.Name)
	// A challenger's engine must not decide by its schema which requests executor accepts.
	opts.Schemas = feature.NewKnown()
	for _, s := range trial.Schemas.All() {
		if _, err := opts.Schemas.Add(s); err != nil {
			return nil, err
		}
	}
	d, err := newDispatcher(opts, c.Name)
	if err != nil {
		return nil, fmt.Errorf("challenger %q: %w", c.Name, err)
	}
	return &challenger{
		Dispatcher: d, sameEngine: c.SameEngine,
		maxStanding: busyQueue * time.Duration(share) / (MaxChallengers + 1),
		maxWaiting:  min(share*max(1, min(trial.MaxBatch, trial.QueueSize/(2*MaxChallengers))), trial.QueueSize-1),
	}, nil
}

// start submits the call, and then a detached one to each challenger.
func (d *Dispatcher) start(c *call) {
	c.pairs = d.newPairs()
	d.submit(c, d.busy(busyQueue))
	if len(d.challengers) == 0 {
		return
	}
	waiting, pairs := d.queue.len(), c.pairs
	r := c.Request
	r.Gated = nil // only the model under trial may decide
	for _, ch := range d.challengers {
		other := newCall(r, ch.opts.Timeout)
		if pairs != nil && pairs.of == ch {
			other.pairs, pairs = pairs, pairs.next
		}
		ch.submit(other, waiting > ch.maxWaiting || d.busy(ch.maxStanding))
	}
}

// sameModel reports whether the challenger and the model under trial form an A/A test.
func (c *challenger) sameModel(trial *Dispatcher) bool {
	if c.sameEngine {
		return true
	}
	a, b := c.model.current.Load(), trial.model.current.Load()
	return a != nil && b != nil && a.digest != "" && a.digest == b.digest
}

// pair is the two scores for one request in an A/A test.
type pair struct {
	of   *challenger
	next *pair // of the next challenger
	// first is the score that came first, nil until then.
	first atomic.Pointer[Result]
}

// newPairs returns a pair for each challenger with the same model as the model under trial.
func (d *Dispatcher) newPairs() (first *pair) {
	for _, c := range slices.Backward(d.challengers) {
		if c.sameModel(d) {
			first = &pair{of: c, next: first}
		}
	}
	return first
}

// score compares the score with the other one of the pair, if there is one yet. The result must not change afterwards.
func (p *pair) score(r *Result) {
	if p.first.CompareAndSwap(nil, r) {
		return
	}
	other := p.first.Load()
	// During a model swap the scores may come from two models.
	if r.Digest == other.Digest && (r.Digest != "" || p.of.sameEngine) {
		p.of.recorder.pair(r.Score - other.Score)
	}
}

// scored compares the result with the other score of its pair. The model under trial has a pair with every challenger.
func (d *Dispatcher) scored(first *pair, r *Result) {
	if first == nil || !r.Outcome.Compared() {
		return
	}
	if d.name != "" {
		first.score(r)
		return
	}
	for p := first; p != nil; p = p.next {
		p.score(r)
	}
}

// ChallengerState is whether a challenger's ml-engine is reachable, and the version of its model when it was last seen.
type ChallengerState struct {
	Name, Model string
	Reachable   bool
}

// Challengers returns the state of all challengers, in their order.
func (d *Dispatcher) Challengers() []ChallengerState {
	var all []ChallengerState
	for _, c := range d.challengers {
		model, ok := c.Ready()
		all = append(all, ChallengerState{c.name, model, ok})
	}
	return all
}

// stopAll stops the dispatchers concurrently and returns their errors.
func stopAll(stops []func() error) error {
	errs := make([]error, len(stops))
	var stopped sync.WaitGroup
	for i, stop := range stops {
		stopped.Go(func() { errs[i] = stop() })
	}
	stopped.Wait()
	return errors.Join(errs...)
}
