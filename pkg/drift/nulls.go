package drift

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Nulls are the nulls of a profile for presents of any number of days, each made once, when it is first asked for: that
// takes some milliseconds. It is safe for concurrent use.
type Nulls struct {
	profile    *Profile
	replicates int
	seed       uint64

	mu   sync.Mutex
	made map[int]*pendingNull
}

// pendingNull is a null that somebody may be making.
type pendingNull struct {
	make func() (*Null, error)
	null atomic.Pointer[Null] // nil until it is made
}

// NewNulls are the nulls of a profile, with as many draws each as [NewNull] takes.
func NewNulls(p *Profile, replicates int, seed uint64) *Nulls {
	return &Nulls{profile: p, replicates: replicates, seed: seed, made: make(map[int]*pendingNull)}
}

// Of is the null for a present of the given number of days. It fails as [NewNull] does.
func (n *Nulls) Of(days int) (*Null, error) { return n.pending(days).make() }

// Made is the null for a present of the given number of days, if it has been made already: nil otherwise. It waits for
// nobody.
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

// of is the null for the days of the counts, and for those of their raw inputs; nil where too few days are there to know.
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
