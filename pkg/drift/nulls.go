package drift

import (
	"errors"
	"sync"
)

// Nulls are the nulls of a profile for presents of any number of days, each made when it is first asked for: that takes
// some tens of milliseconds. It is safe for concurrent use.
type Nulls struct {
	profile    *Profile
	replicates int
	seed       uint64

	mu   sync.Mutex
	made map[int]*Null
}

// NewNulls are the nulls of a profile, with as many draws each as [NewNull] takes.
func NewNulls(p *Profile, replicates int, seed uint64) *Nulls {
	return &Nulls{profile: p, replicates: replicates, seed: seed, made: make(map[int]*Null)}
}

// Of is the null for a present of the given number of days. It fails as [NewNull] does.
func (n *Nulls) Of(days int) (*Null, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if null, ok := n.made[days]; ok {
		return null, nil
	}
	null, err := NewNull(n.profile, days, n.replicates, n.seed)
	if err != nil {
		return nil, err
	}
	n.made[days] = null
	return null, nil
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
