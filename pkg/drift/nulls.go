package drift

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Nulls caches the nulls of a profile for any number of days of current data. Each is computed on first use, which
// takes a few milliseconds. It is safe for concurrent use.
type Nulls struct {
	profile    *Profile
	replicates int
	seed       uint64

	mu   sync.Mutex
	made map[int]*pendingNull
}

// pendingNull is a null that a goroutine may be computing.
type pendingNull struct {
	make func() (*Null, error)
	null atomic.Pointer[Null] // nil until computed
}

// NewNulls returns the nulls of a profile. replicates and seed are passed to [NewNull].
func NewNulls(p *Profile, replicates int, seed uint64) *Nulls {
	return &Nulls{profile: p, replicates: replicates, seed: seed, made: make(map[int]*pendingNull)}
}

// Of returns the null for the given number of days of current data. It returns the errors of [NewNull].
func (n *Nulls) Of(days int) (*Null, error) { return n.pending(days).make() }

// Made returns the null for the given number of days if it has been computed already, otherwise nil. It never waits.
func (n *Nulls) Made(days int) *Null { return n.pending(days).null.Load() }

func (n *Nulls) pending(days int) *pendingNull {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v, ok := n.made[days]; ok {
		return v
	}
	v := &pendingNull{}
	v.make = sync.OnceValues(func() (*Null, error) {
		null, err := NewNull(n.profile, days, n.replicates, n.seed)
		if err == nil {
			v.null.Store(null)
		}
		return null, err
	})
	n.made[days] = v
	return v
}

// of returns the nulls for the days of the counts and for the days with raw inputs; nil if there are too few days.
func (n *Nulls) of(c *Counts) (scored, inputs *Null, err error) {
	for _, v := range []struct {
		null **Null
		days int
	}{{&scored, len(c.scored.days)}, {&inputs, len(c.inputs.days)}} {
		if *v.null, err = n.Of(v.days); err != nil && !errors.Is(err, ErrTooFewDays) {
			return nil, nil, err
		}
	}
	return scored, inputs, nil
}
