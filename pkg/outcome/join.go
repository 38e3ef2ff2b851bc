package outcome

import (
	"math"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

const (
	minuteMS = 60_000
	graceMS  = int64(Grace / 1e6)
	skewMS   = int64(MaxSkew / 1e6)
	// keptPerMinute is how many rows a minute are kept with reported labels: 250 a second. keptRows bounds all minutes
	// together, so a horizon of days keeps fewer rows a minute.
	keptPerMinute, keptRows = 250 * 60, 1 << 20
	// recentRows is how many recent request ids are remembered with labels from quotes, to find duplicates.
	recentRows = 1 << 16
	// mostRows limits the rows of a block, so that its sums stay in range.
	mostRows = 1 << 27
)

// Row is a sampled request whose shadow has ended.
type Row struct {
	ID, Symbol string
	// Time is the time of the market state, in Unix milliseconds: the feature time of a request with a quote, the event time
	// of any other. 0 is unknown.
	Time int64
	// Arrival is when a live request arrived, in Unix milliseconds.
	Arrival  int64
	Source   Source
	Baseline float64
	// Shadow is the model's score. It counts only if Missing is None; [FallbackOf] gives Missing for a shadow's outcome.
	Shadow   float64
	Missing  Fallback
	Revision uint64
}

// Join joins the rows of one executor, model, baseline and plan to their labels, and builds the block records. With
// labels from quotes, rows of one symbol and minute share their label, so memory depends on the number of symbols and not
// of requests. With reported labels it keeps a hash of the id and both scores of at most 250 rows a second.
//
// The caller gives it every sampled request once its shadow has ended ([Join.Add]), and either every minute of every symbol
// ([Join.Minute]) or the outcomes ([Join.Report]). Blocks close by those times. It is not safe for concurrent use.
type Join struct {
	key  Key
	plan Plan
	// most is the disagreement cap.
	most float64
	// width and horizon are in milliseconds.
	width, horizon int64

	// clock is the latest time seen in quotes, reports and rows. Blocks before closed are closed.
	clock, closed int64
	// last is the block of the last row.
	last *block
	open map[int64]*block
	// stray counts the requests that belong to no open block.
	stray   Record
	through uint64
	totals  LabelCounts
	lost    uint64
	done    []Record
	// tracking reports that [Join.Save] was called, so that changes are tracked for the next call.
	tracking bool
	// live reports whether any row was live. If so, replayed rows do not move the clock.
	live bool

	// With labels from quotes.
	symbols map[string]*symbol
	recent  []uint64
	seen    []uint64 // ids since the last Save
	spare   []*cell

	// With reported labels.
	rows    map[id]*kept
	minutes map[int64]*minute
	limit   int
	changed []id
}

// block is an open block.
type block struct {
	Record
	dirty bool
}

// NewJoin returns an empty join. The block of the key is not used. The plan must be valid, or the zero Plan with a label
// source and a horizon: then rows are counted without a cap, and the key's plan is empty.
func NewJoin(key Key, p Plan) *Join {
	j := &Join{
		key: key, plan: p, most: p.DisagreementCap, width: p.Width().Milliseconds(), horizon: p.HorizonMS,
		open: map[int64]*block{}, closed: math.MinInt64,
	}
	j.key.Block = 0
	if j.key.Plan = ""; p.DisagreementCap > 0 {
		j.key.Plan = p.Digest()
	} else {
		j.most = 1
	}
	if p.LabelSource == Reported {
		span := (j.width + 2*j.horizon + graceMS) / minuteMS
		j.rows, j.minutes, j.limit = map[id]*kept{}, map[int64]*minute{}, int(max(1, min(keptPerMinute, keptRows/max(1, span))))
	} else {
		j.symbols, j.recent = map[string]*symbol{}, make([]uint64, recentRows)
	}
	return j
}

// Key returns the key of the records, without a block.
func (j *Join) Key() Key { return j.key }

// Counts returns the sampled requests by label since the first row, and the lost ones.
func (j *Join) Counts() (labels LabelCounts, lost uint64) { return j.totals, j.lost }

// Waiting returns the number of rows that wait for their label.
func (j *Join) Waiting() uint64 { return j.totals[Pending] }

// Closed returns the records of the blocks that have closed since the last call, in order.
func (j *Join) Closed() []Record {
	done := j.done
	j.done = nil
	return done
}

// Lost counts n rows that were lost when the process was killed.
func (j *Join) Lost(n uint64) {
	j.lost += n
	j.stray.Lost += n
}

// Add takes a row and returns the state of its label. It does not allocate, except for a new minute, block or
// bin.
func (j *Join) Add(r *Row) Label {
	l, b := j.add(r)
	j.totals[l]++
	at := &j.stray
	if b != nil {
		at = &b.Record
		at.Revision = max(at.Revision, r.Revision)
		b.dirty = true
	}
	at.Labels[l]++
	at.Sources[r.Source]++
	return l
}

func (j *Join) add(r *Row) (Label, *block) {
	if j.rows != nil {
		return j.addReported(r)
	}
	if hash := xxhash.Sum64String(r.ID); j.recent[hash%recentRows] == hash {
		return Duplicate, nil
	} else if j.recent[hash%recentRows] = hash; j.tracking {
		j.seen = append(j.seen, hash)
	}
	if !ready(r) {
		return NotReady, nil
	}
	s := j.symbols[r.Symbol]
	if s == nil {
		return NoLabel, nil
	}
	// The grid minute at or before the time of the row.
	m := floorDiv(r.Time, minuteMS) * minuteMS
	if m > s.newest+graceMS {
		return NotReady, nil
	}
	b := j.blockOf(m)
	if b == nil {
		return Expired, nil
	}
	w := j.weigh(r)
	if b.Rows == mostRows {
		return NotKept, b
	}
	b.count(w)
	if m <= s.newest-j.horizon {
		return Expired, b // its label is known: a score after the outcome is not a forecast
	}
	c := s.at(m)
	if c == nil {
		c = j.newCell(m)
		s.insert(c)
	}
	c.add(w)
	return Pending, b
}

// ready reports whether the row has a usable time and score.
func ready(r *Row) bool {
	skew := r.Time - r.Arrival
	return r.Time > 0 && r.Baseline >= 0 && r.Baseline <= 1 && (r.Source != Live || skew <= skewMS && -skew <= skewMS)
}

// blockOf returns the block of a time; nil if it is closed.
func (j *Join) blockOf(t int64) *block {
	n := floorDiv(t, j.width)
	if j.last != nil && j.last.Block == n {
		return j.last
	}
	if n < j.closed {
		return nil
	}
	b := j.open[n]
	if b == nil {
		b = &block{Record: Record{Key: j.key}}
		b.Block = n
		j.open[n] = b
	}
	j.last = b
	return b
}

// weighed is what a row adds to the sums, by label where it depends on the label.
type weighed struct {
	q, p     float64
	fallback Fallback
}

// weigh returns the scores of a row: p is the policy score.
func (j *Join) weigh(r *Row) weighed {
	w := weighed{q: r.Baseline, p: r.Shadow, fallback: r.Missing}
	if w.fallback == None && !(w.p >= 0 && w.p <= 1) {
		w.fallback = InvalidScore
	}
	if w.fallback == None && math.Abs(w.p-w.q) > j.most {
		w.fallback = Disagreement
	}
	if w.fallback != None {
		w.p = w.q
	}
	return w
}

func (b *block) count(w weighed) {
	b.Rows++
	b.Fallbacks[w.fallback]++
}

// sums are sums over rows of one label.
type sums struct{ d, d2, loss, q, p Fixed }

// of returns what a row adds if its label is y. The conversions keep every platform from fusing a product and a sum, which
// would round differently.
func (w weighed) of(y float64) sums {
	d := float64((w.q - w.p) * (w.q + w.p - 2*y))
	e := w.q - y
	return sums{toFixed(d), toFixed(float64(d * d)), toFixed(float64(e * e)), toFixed(w.q), toFixed(w.p)}
}

func (s *sums) add(o sums) {
	s.d += o.d
	s.d2 += o.d2
	s.loss += o.loss
	s.q += o.q
	s.p += o.p
}

// mature adds n rows with their label to the record.
func (r *Record) mature(s sums, n uint64) {
	r.Labels[Matured] += n
	r.SumD += s.d
	r.SumD2 += s.d2
	r.SumLoss += s.loss
	r.SumBaseline += s.q
	r.SumPolicy += s.p
}

// settle moves n pending rows of the block to another label.
func (j *Join) settle(b *block, l Label, n uint64) {
	b.Labels[Pending] -= n
	j.totals[Pending] -= n
	j.totals[l] += n
	b.dirty = true
	if l != Matured { // mature counts those
		b.Labels[l] += n
	}
}

// advance moves the clock and closes blocks: one closes when all its labels must be known.
func (j *Join) advance(t int64) {
	j.clock = max(j.clock, t)
	first := floorDiv(j.clock-j.horizon-graceMS, j.width)
	if first <= j.closed {
		return
	}
	j.closed = first
	var ending []int64
	for n := range j.open {
		if n < first {
			ending = append(ending, n)
		}
	}
	if len(ending) == 0 {
		return
	}
	slices.Sort(ending)
	j.expire(first * j.width)
	for _, n := range ending {
		j.emit(j.open[n])
		delete(j.open, n)
	}
	j.last = nil
}

// emit finalizes the record of a block, and adds the stray requests to it.
func (j *Join) emit(b *block) {
	r := b.Record
	for l, n := range j.stray.Labels {
		r.Labels[l] += n
	}
	for s, n := range j.stray.Sources {
		r.Sources[s] += n
	}
	r.Lost += j.stray.Lost
	j.stray = Record{}
	j.through += r.Requests()
	r.Through = j.through
	j.done = append(j.done, r)
}

// expire settles the pending rows before t, the end of their blocks.
func (j *Join) expire(t int64) {
	for _, s := range j.symbols {
		for len(s.cells) > 0 && s.cells[0].minute < t {
			j.drop(s, NoLabel)
		}
	}
	for at := range j.minutes {
		if at < t {
			j.expireMinute(at)
		}
	}
}

// expireMinute forgets the rows of a minute whose block ends. Waiting rows expire.
func (j *Join) expireMinute(at int64) {
	for _, id := range j.minutes[at].ids {
		if k := j.rows[id]; k != nil && k.label == Pending {
			j.settle(j.open[floorDiv(k.time, j.width)], Expired, 1)
		}
		delete(j.rows, id)
	}
	delete(j.minutes, at)
}

// Answer is a label from quotes.
type Answer uint8

// The answers.
const (
	Unknown  Answer = iota // a hole in the data
	Negative               // y = 0
	Positive               // y = 1
)

// symbol is an instrument with quotes.
type symbol struct {
	// newest is the end of the last complete minute.
	newest int64
	// cells are the minutes with pending rows, in time order.
	cells []*cell
	dirty bool
}

// cell sums the rows of a symbol and minute, for either label.
type cell struct {
	minute int64
	n      uint64
	// sums are for y = 0 and y = 1.
	sums [2]sums
	// bins count q in bin and p' in bin + Bins; bins ascend.
	bins  [][2]uint32
	dirty bool
}

func (j *Join) newCell(m int64) *cell {
	if n := len(j.spare); n > 0 {
		c := j.spare[n-1]
		j.spare = j.spare[:n-1]
		*c = cell{minute: m, bins: c.bins[:0]}
		return c
	}
	return &cell{minute: m}
}

func (c *cell) add(w weighed) {
	c.n++
	c.sums[0].add(w.of(0))
	c.sums[1].add(w.of(1))
	c.bin(uint32(binOf(w.q)))
	c.bin(uint32(binOf(w.p)) + Bins)
	c.dirty = true
}

func (c *cell) bin(bin uint32) {
	low, high := 0, len(c.bins)
	for low < high {
		if mid := (low + high) / 2; c.bins[mid][0] < bin {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == len(c.bins) || c.bins[low][0] != bin {
		c.bins = slices.Insert(c.bins, low, [2]uint32{bin})
	}
	c.bins[low][1]++
}

// at returns the cell of a minute, or nil.
func (s *symbol) at(m int64) *cell {
	for i := len(s.cells) - 1; i >= 0 && s.cells[i].minute >= m; i-- {
		if s.cells[i].minute == m {
			return s.cells[i]
		}
	}
	return nil
}

func (s *symbol) insert(c *cell) {
	i := len(s.cells)
	for i > 0 && s.cells[i-1].minute > c.minute {
		i--
	}
	s.cells = slices.Insert(s.cells, i, c)
}

// Minute takes the end of a complete grid minute of the symbol, in Unix milliseconds, and the label of the minute that
// ended a horizon before. Earlier minutes of the symbol that still wait have no label. The first call makes the symbol
// known: rows of unknown symbols have no label. With reported labels it does nothing.
func (j *Join) Minute(name string, end int64, y Answer) {
	if j.symbols == nil {
		return
	}
	s := j.symbols[name]
	if s == nil {
		s = &symbol{newest: math.MinInt64}
		j.symbols[name] = s
	}
	if end <= s.newest {
		return
	}
	s.newest, s.dirty = end, true
	due := end - j.horizon
	for len(s.cells) > 0 && s.cells[0].minute <= due {
		if s.cells[0].minute < due || y == Unknown {
			j.drop(s, NoLabel)
			continue
		}
		c := s.cells[0]
		class := int(y - Negative)
		if b := j.drop(s, Matured); b != nil {
			b.mature(c.sums[class], c.n)
			for _, bin := range c.bins {
				if bin[0] < Bins {
					b.BaselineScores.add(uint64(bin[0]), class, uint64(bin[1]))
				} else {
					b.PolicyScores.add(uint64(bin[0]-Bins), class, uint64(bin[1]))
				}
			}
		}
	}
	j.advance(end)
}

// drop settles the first cell of a symbol and returns its block. The cell is valid until the next row.
func (j *Join) drop(s *symbol, l Label) *block {
	c := s.cells[0]
	s.cells = slices.Delete(s.cells, 0, 1)
	s.dirty = true
	j.spare = append(j.spare, c)
	b := j.open[floorDiv(c.minute, j.width)]
	j.settle(b, l, c.n)
	return b
}

// id is a 128-bit hash of a request id.
type id [2]uint64

func idOf(request string) id {
	var d xxhash.Digest
	d.ResetWithSeed(1)
	_, _ = d.WriteString(request) // a hash never fails
	return id{xxhash.Sum64String(request), d.Sum64()}
}

// kept is a row that waits for a report, or already has one.
type kept struct {
	time  int64
	row   weighed
	label Label
	y     bool
}

// minute holds the rows of one minute. Ids whose hash has fewer than level leading zero bits are not kept.
type minute struct {
	ids   []id
	level int
}

func (i id) level() int { return bits.LeadingZeros64(i[1]) }

func (j *Join) addReported(r *Row) (Label, *block) {
	at := idOf(r.ID)
	if j.rows[at] != nil {
		return Duplicate, nil
	}
	if !ready(r) {
		return NotReady, nil
	}
	switch {
	case r.Source == Live:
		j.live = true
		j.advance(r.Time)
	case !j.live: // a replay has no other clock
		j.advance(r.Time)
	case r.Time > j.clock+graceMS:
		return NotReady, nil
	}
	b := j.blockOf(r.Time)
	if b == nil {
		return Expired, nil
	}
	w := j.weigh(r)
	b.count(w)
	start := floorDiv(r.Time, minuteMS) * minuteMS
	m := j.minutes[start]
	if m == nil {
		m = &minute{}
		j.minutes[start] = m
	}
	if at.level() < m.level {
		return NotKept, b
	}
	j.rows[at] = &kept{time: r.Time, row: w, label: Pending}
	m.ids = append(m.ids, at)
	j.touch(at)
	for len(m.ids) > j.limit && m.level < 64 {
		m.level++
		m.ids = slices.DeleteFunc(m.ids, func(i id) bool {
			k := j.rows[i]
			if i.level() >= m.level || k.label != Pending {
				return false
			}
			if i != at {
				j.settle(b, NotKept, 1)
			}
			delete(j.rows, i)
			j.touch(i)
			return true
		})
	}
	if j.rows[at] == nil {
		return NotKept, b
	}
	return Pending, b
}

// touch marks a kept row as changed since the last Save.
func (j *Join) touch(i id) {
	if j.tracking {
		j.changed = append(j.changed, i)
	}
}

// Reaction is the effect of a reported outcome. The set is closed.
type Reaction uint8

// The reactions.
const (
	// Accepted outcomes are the label of their row.
	Accepted Reaction = iota
	// UnknownID is normal in a fleet, where every executor gets all outcomes, and for rows that are not kept.
	UnknownID
	// Repeated outcomes were already known.
	Repeated
	// Late outcomes became known after their row's horizon and grace.
	Late
	// Contradicting outcomes differ from the known one, or were known before the time of their row.
	Contradicting
)

var reactionNames = [...]string{"accepted", "unknown", "repeated", "late", "contradicting"}

// String returns the name of the reaction in metrics.
func (r Reaction) String() string { return reactionNames[r] }

// Report takes the outcome of a request and the time when it became known, in Unix milliseconds. The caller must check that
// the time is not in the future, because it closes blocks. With labels from quotes every outcome is unknown.
func (j *Join) Report(request string, y bool, known int64) Reaction {
	if j.rows == nil {
		return UnknownID
	}
	at := idOf(request)
	reaction := j.react(at, y, known)
	j.advance(known)
	return reaction
}

func (j *Join) react(at id, y bool, known int64) Reaction {
	k := j.rows[at]
	switch {
	case k == nil:
		return UnknownID
	case k.label == Matured && k.y == y:
		return Repeated
	case k.label == Matured || known < k.time:
		return Contradicting
	case k.label == Expired:
		return Late
	}
	b := j.open[floorDiv(k.time, j.width)]
	j.touch(at)
	if known > k.time+j.horizon+graceMS {
		k.label = Expired
		j.settle(b, Expired, 1)
		return Late
	}
	k.label, k.y = Matured, y
	j.settle(b, Matured, 1)
	class := 0
	if y {
		class = 1
	}
	b.mature(k.row.of(float64(class)), 1)
	b.BaselineScores.add(binOf(k.row.q), class, 1)
	b.PolicyScores.add(binOf(k.row.p), class, 1)
	return Accepted
}
