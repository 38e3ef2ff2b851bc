package shadow

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	windowSlots = 60
	// Deltas are kept in millionths and latencies in microseconds.
	deltaUnit, deltaLimit     = 1e-6, 1_000_000
	latencyUnit, latencyLimit = 1e-3, 10_000_000 // to milliseconds; 10 s
)

// Recorder counts every outcome, both since start and over a rolling window.
type Recorder struct {
	start time.Time
	// requests are counted by source when they begin, totals by outcome when they end.
	requests [sourceEnd]atomic.Uint64
	totals   [outcomeEnd]atomic.Uint64
	// decided are the comparisons since start by the decisions at the threshold; all 0 if that is 0.
	decided [decisionsEnd]atomic.Uint64
	// together and apart count pairs of scores from one model.
	together, apart      atomic.Uint64
	tolerance, threshold float64
	slotLen              time.Duration
	metrics              *metrics

	mu    sync.Mutex
	slots [windowSlots]slot
	// The model that answered last.
	lastVersion, lastDigest string
}

// slot is one sixtieth of the window.
type slot struct {
	window

	epoch int64 // the number of the slot since start, from 1; 0 was never used
}

// noise counts pairs of scores from one model, see [pair].
type noise struct {
	pairs, apart uint64
	max          float64 // the largest difference
}

func (n *noise) add(o noise) {
	n.pairs, n.apart, n.max = n.pairs+o.pairs, n.apart+o.apart, max(n.max, o.max)
}

// newRecorder returns an empty recorder with the rolling window, match tolerance and decision threshold from the options.
func newRecorder(m *metrics, o Options) *Recorder {
	return &Recorder{
		start: time.Now(), slotLen: o.Window / windowSlots, metrics: m, tolerance: o.MatchTolerance, threshold: o.DecisionThreshold,
	}
}

// begin counts a request of the source. Exactly one record follows it.
func (r *Recorder) begin(s Source) { r.requests[s].Add(1) }

// Requests returns how many requests of the source have begun since start.
func (r *Recorder) Requests(s Source) uint64 { return r.requests[s].Load() }

// record counts the outcome of a request.
func (r *Recorder) record(res Result, req *Request) {
	r.totals[res.Outcome].Add(1)
	r.metrics.observe(res, req)
	decide := res.Outcome.Compared() && r.threshold > 0
	d := decisionsOf(req.Baseline >= r.threshold, res.Score >= r.threshold)
	if decide {
		r.decided[d].Add(1)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slotNow()
	s.counts[res.Outcome]++
	if res.Outcome.Compared() {
		s.sumDelta += res.Delta
		s.delta.add(int64(math.Round(math.Abs(res.Delta) / deltaUnit)))
		s.latency.add(res.Latency.Microseconds())
		r.lastVersion, r.lastDigest = res.Version, res.Digest
	}
	if decide {
		s.decided[d]++
	}
}

// pair counts two scores from one model, which differ by delta.
func (r *Recorder) pair(delta float64) {
	delta = math.Abs(delta)
	apart := delta > r.tolerance
	if apart {
		r.apart.Add(1)
	} else {
		r.together.Add(1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := &r.slotNow().noise
	n.pairs, n.max = n.pairs+1, max(n.max, delta)
	if apart {
		n.apart++
	}
}

// epoch returns the number of the current slot since start, from 1.
func (r *Recorder) epoch() int64 { return int64(time.Since(r.start)/r.slotLen) + 1 }

// slotNow returns the current slot, and empties it first if it holds an older epoch.
func (r *Recorder) slotNow() *slot {
	epoch := r.epoch()
	s := &r.slots[epoch%windowSlots]
	if s.epoch == epoch {
		return s
	}
	if s.epoch == 0 {
		s.delta, s.latency = newDistribution(deltaLimit), newDistribution(latencyLimit)
	}
	s.delta.reset()
	s.latency.reset()
	*s = slot{window{delta: s.delta, latency: s.latency}, epoch}
	return s
}

// begun returns how many requests of any source have begun since start.
func (r *Recorder) begun() (n uint64) {
	for _, s := range Sources() {
		n += r.Requests(s)
	}
	return n
}

// InFlight returns how many requests have begun but not ended.
func (r *Recorder) InFlight() uint64 {
	// Read the outcomes first: then a request that begins in between counts as in flight, never as minus one.
	var ended uint64
	for o := range r.totals {
		ended += r.totals[o].Load()
	}
	return r.begun() - ended
}

// Total returns how many requests ended in the outcome since start.
func (r *Recorder) Total(o Outcome) uint64 { return r.totals[o].Load() }

// window is what a slot counts, or the sum of the slots in the rolling window.
type window struct {
	counts         [outcomeEnd]uint64
	decided        [decisionsEnd]uint64
	sumDelta       float64
	delta, latency distribution
	noise          noise
}

// window sums the slots of the rolling window. Requests wait for the lock, so it is released after every slot: merging one
// slot takes microseconds, merging all takes most of a millisecond.
func (r *Recorder) window() window {
	w := window{delta: newDistribution(deltaLimit), latency: newDistribution(latencyLimit)}
	r.each(func(s *slot) {
		for o, n := range s.counts {
			w.counts[o] += n
		}
		for d, n := range s.decided {
			w.decided[d] += n
		}
		w.sumDelta += s.sumDelta
		w.delta.merge(s.delta)
		w.latency.merge(s.latency)
		w.noise.add(s.noise)
	})
	return w
}

// compared returns the matches and comparisons in the window.
func (r *Recorder) compared() (matches, comparisons uint64) {
	r.each(func(s *slot) {
		matches += s.counts[Match]
		comparisons += s.counts[Match] + s.counts[Mismatch]
	})
	return matches, comparisons
}

// noise returns the pairs of scores from one model in the window.
func (r *Recorder) noise() (n noise) {
	r.each(func(s *slot) { n.add(s.noise) })
	return n
}

// each visits the slots of the window, holding the lock for one slot at a time.
func (r *Recorder) each(visit func(*slot)) {
	now := r.epoch()
	for i := range r.slots {
		r.mu.Lock()
		if s := &r.slots[i]; s.epoch > max(0, now-windowSlots) {
			visit(s)
		}
		r.mu.Unlock()
	}
}

// last returns the model that answered last.
func (r *Recorder) last() (version, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastVersion, r.lastDigest
}
