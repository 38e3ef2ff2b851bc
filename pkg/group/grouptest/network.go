// Package grouptest has an in-memory carrier with every fault that a carrier may have: it loses, delays, repeats, reorders
// and forges messages, returns old ones, loses its store, splits into two halves, and hangs.
//
// It works under testing/synctest. The seed and the order of calls determine the faults.
package grouptest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
)

// Network is the carrier of one group. It is safe for concurrent use.
type Network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	// stores are the stores of the two halves. Only the first is used unless the network is split.
	stores [2]store
	// old are earlier states of the first store, sent are messages for executors: the last ones.
	old  []store
	sent []message
	// ends are all carriers.
	ends []*Carrier
}

// Faults apply to every message and call. The zero value is a carrier without faults.
type Faults struct {
	// Lose and Repeat are the probabilities that a message is lost or delivered twice, in [0,1].
	Lose, Repeat float64
	// Delay is the longest time that a message takes. Each takes a random one, so that they overtake each other.
	Delay time.Duration
	// Fail is the probability that a call returns an error, in [0,1]. Half of those calls take effect anyway.
	Fail float64
}

// store is what is stored.
type store struct {
	record, kill, abort []byte
	version             uint64
	blocks              []block
}

// stops returns those that are stored, a kill first.
func (s *store) stops() [][]byte {
	return slices.DeleteFunc([][]byte{s.kill, s.abort}, func(stop []byte) bool { return stop == nil })
}

type block struct {
	key  string
	data []byte
}

// message is a message for one executor, or for all if executor is empty.
type message struct {
	kind     group.Kind
	executor string
	data     []byte
}

// maxKept bounds what is kept for replays and rollbacks.
const maxKept = 1000

// NewNetwork returns a network without faults.
func NewNetwork(seed uint64) *Network { return &Network{rng: rand.New(rand.NewPCG(seed, 1))} }

// Carrier returns a new end of the network, for one executor or one controller.
func (n *Network) Carrier() *Carrier {
	c := &Carrier{net: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ends = append(n.ends, c)
	return c
}

// SetFaults sets the faults from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// Heal ends the faults of the network and of all carriers. Lost messages stay lost.
func (n *Network) Heal() {
	n.SetFaults(Faults{})
	n.Join()
	n.mu.Lock()
	ends := slices.Clone(n.ends)
	n.mu.Unlock()
	for _, c := range ends {
		c.Heal()
	}
}

// Wipe forgets everything that is stored.
func (n *Network) Wipe() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stores[0] = store{}
}

// Rollback returns to a random earlier state of the store.
func (n *Network) Rollback() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.old) > 0 {
		n.stores[0] = n.old[n.rng.IntN(len(n.old))].clone()
	}
}

// Replay sends a random earlier message to the executors again.
func (n *Network) Replay() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sent) > 0 {
		n.deliver(n.sent[n.rng.IntN(len(n.sent))], nil)
	}
}

// Forge sends a random earlier message with one byte changed to the executors, and stores it if it is a record.
func (n *Network) Forge() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sent) == 0 {
		return
	}
	m := n.sent[n.rng.IntN(len(n.sent))]
	m.data = bytes.Clone(m.data)
	if len(m.data) > 0 {
		m.data[n.rng.IntN(len(m.data))] ^= byte(1 + n.rng.IntN(255))
	}
	if m.kind == group.RecordMessage {
		n.stores[0].record = m.data
	}
	n.deliver(m, nil)
}

// Split moves the carriers to the other half, which starts with a copy of the store.
func (n *Network) Split(carriers ...*Carrier) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stores[1] = n.stores[0].clone()
	for _, c := range carriers {
		c.half = 1
	}
}

// Join reunites the halves. What the second half has stored since the split is lost.
func (n *Network) Join() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.ends {
		c.half = 0
	}
}

// Chaos injects a random fault into the network or one of its carriers, or heals a carrier.
func (n *Network) Chaos() {
	n.mu.Lock()
	what, half := n.rng.IntN(13), n.rng.Uint64()
	var c *Carrier
	if len(n.ends) > 0 {
		c = n.ends[n.rng.IntN(len(n.ends))]
	}
	f := Faults{Lose: n.rng.Float64() / 2, Repeat: n.rng.Float64() / 2, Delay: time.Duration(n.rng.Int64N(int64(40 * time.Second))), Fail: n.rng.Float64() / 2}
	var others []*Carrier
	for i, c := range n.ends {
		if half>>(i%64)&1 == 1 {
			others = append(others, c)
		}
	}
	n.mu.Unlock()
	switch {
	case what == 0:
		n.SetFaults(f)
	case what == 1:
		n.SetFaults(Faults{})
	case what == 2:
		n.Wipe()
	case what == 3:
		n.Rollback()
	case what <= 5:
		n.Replay()
	case what == 6:
		n.Forge()
	case what == 7:
		n.Split(others...)
	case what == 8:
		n.Join()
	case c == nil:
	case what == 9:
		c.Cut()
	case what == 10:
		c.Stall()
	case what == 11:
		c.Hang()
	default:
		c.Heal()
	}
}

func (s *store) clone() store {
	c := *s
	c.blocks = slices.Clone(s.blocks)
	return c
}

// keep remembers the message and the store. The caller holds the lock.
func (n *Network) keep(m message) {
	n.sent, n.old = append(n.sent, m), append(n.old, n.stores[0].clone())
	n.sent, n.old = n.sent[max(0, len(n.sent)-maxKept):], n.old[max(0, len(n.old)-maxKept):]
}

// deliver sends a message to the watches of its executor, or of all, on the half of the sender; nil is both. The caller holds
// the lock.
func (n *Network) deliver(m message, from *Carrier) {
	for _, c := range n.ends {
		if from != nil && c.half != from.half || c.state != works {
			continue
		}
		for _, w := range c.watches {
			if !w.reports && (m.executor == "" || m.executor == w.executor) {
				n.send(w, m)
			}
		}
	}
}

// send puts a message into the queue of a watch, perhaps later or twice or not at all. The caller holds the lock.
func (n *Network) send(w *watch, m message) {
	times := 1
	if n.rng.Float64() < n.faults.Repeat {
		times = 2
	}
	for range times {
		switch {
		case n.rng.Float64() < n.faults.Lose:
		case n.faults.Delay > 0:
			time.AfterFunc(time.Duration(n.rng.Int64N(int64(n.faults.Delay))), func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				w.put(m)
			})
		default:
			w.put(m)
		}
	}
}

// watch is a running call of Watch or Reports.
type watch struct {
	executor string
	reports  bool
	queue    []message
	// wake has one message if the queue is not empty; failed is closed when the watch must end.
	wake, failed chan struct{}
}

func (w *watch) put(m message) {
	w.queue = append(w.queue, m)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run registers the watch, which starts with the messages of first, and passes on messages until ctx ends or the watch fails.
func (c *Carrier) run(ctx context.Context, w *watch, first func(*store) []message, take func(message)) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	c.net.mu.Lock()
	for _, m := range first(&c.net.stores[c.half]) {
		w.put(m)
	}
	c.watches = append(c.watches, w)
	c.net.mu.Unlock()
	defer func() {
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		c.watches = slices.DeleteFunc(c.watches, func(other *watch) bool { return other == w })
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.failed:
			return errCut
		case <-w.wake:
		}
		c.net.mu.Lock()
		queue := w.queue
		w.queue = nil
		c.net.mu.Unlock()
		for _, m := range queue {
			take(m)
		}
	}
}

var errCut = errors.New("the network is cut")
