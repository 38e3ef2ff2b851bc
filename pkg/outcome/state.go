package outcome

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// State is a [Join] or a part of it in JSON. A file has one a line: a full state, then the changes since.
type State struct {
	Key     Key         `json:"key"`
	Plan    Plan        `json:"plan"`
	Clock   int64       `json:"clock"`
	Closed  int64       `json:"closed"`
	Live    bool        `json:"live"`
	Through uint64      `json:"through"`
	Totals  LabelCounts `json:"totals"`
	Lost    uint64      `json:"lost"`
	Stray   Record      `json:"stray"`
	// Open are the open blocks, Symbols the symbols with quotes, Kept the rows that wait for a report; only changed ones.
	Open    []Record      `json:"open,omitempty"`
	Symbols []symbolState `json:"symbols,omitempty"`
	Kept    []keptState   `json:"kept,omitempty"`
	// Levels are the levels of minutes with thinned rows: start and level.
	Levels [][2]int64 `json:"levels,omitempty"`
	// Recent are hashes of request ids, little-endian, in their order.
	Recent []byte `json:"recent,omitempty"`
}

// symbolState is a symbol with its changed cells. Cells before Newest less the horizon are gone.
type symbolState struct {
	Symbol string      `json:"symbol"`
	Newest int64       `json:"newest"`
	Cells  []cellState `json:"cells,omitempty"`
}

type cellState struct {
	Minute   int64       `json:"minute"`
	N        uint64      `json:"n"`
	Negative [5]Fixed    `json:"negative"`
	Positive [5]Fixed    `json:"positive"`
	Bins     [][2]uint32 `json:"bins"`
}

// keptState is a kept row. A row that is no longer kept has the label NotKept.
type keptState struct {
	ID       id       `json:"id"`
	Time     int64    `json:"time"`
	Baseline float64  `json:"baseline"`
	Policy   float64  `json:"policy"`
	Fallback Fallback `json:"fallback"`
	Label    Label    `json:"label"`
	Outcome  bool     `json:"outcome"`
}

// Save returns the whole state, or what has changed since the last call. The first call must be for the whole state. Write
// records from [Join.Closed] before the state that follows them: after a kill in between, the next start repeats those
// records with the same keys.
func (j *Join) Save(whole bool) *State {
	whole = whole || !j.tracking
	s := &State{
		Key: j.key, Plan: j.plan, Clock: j.clock, Closed: j.closed, Live: j.live, Through: j.through, Totals: j.totals, Lost: j.lost,
		Stray: j.stray,
	}
	for _, n := range slices.Sorted(maps.Keys(j.open)) {
		if b := j.open[n]; whole || b.dirty {
			r := b.Record
			r.BaselineScores, r.PolicyScores = slices.Clone(r.BaselineScores), slices.Clone(r.PolicyScores)
			s.Open = append(s.Open, r)
			b.dirty = false
		}
	}
	for name, of := range j.symbols {
		if saved, changed := of.save(whole); changed {
			saved.Symbol = name
			s.Symbols = append(s.Symbols, saved)
		}
	}
	switch {
	case !whole:
		for _, hash := range j.seen {
			s.Recent = binary.LittleEndian.AppendUint64(s.Recent, hash)
		}
		for _, i := range j.changed {
			s.Kept = append(s.Kept, j.saveRow(i))
		}
	default:
		for _, hash := range j.recent {
			if hash != 0 {
				s.Recent = binary.LittleEndian.AppendUint64(s.Recent, hash)
			}
		}
		for i := range j.rows {
			s.Kept = append(s.Kept, j.saveRow(i))
		}
	}
	for start, m := range j.minutes {
		if m.level > 0 {
			s.Levels = append(s.Levels, [2]int64{start, int64(m.level)})
		}
	}
	j.tracking, j.seen, j.changed = true, j.seen[:0], j.changed[:0]
	return s
}

// save returns the symbol's state, and whether it has changed.
func (s *symbol) save(whole bool) (symbolState, bool) {
	saved, changed := symbolState{Newest: s.newest}, whole || s.dirty
	for _, c := range s.cells {
		if whole || c.dirty {
			one := cellState{Minute: c.minute, N: c.n, Bins: slices.Clone(c.bins)}
			one.Negative, one.Positive = c.sums[0].list(), c.sums[1].list()
			saved.Cells = append(saved.Cells, one)
			c.dirty, changed = false, true
		}
	}
	s.dirty = false
	return saved, changed
}

func (s sums) list() [5]Fixed { return [5]Fixed{s.d, s.d2, s.loss, s.q, s.p} }

func sumsOf(l [5]Fixed) sums { return sums{l[0], l[1], l[2], l[3], l[4]} }

func (j *Join) saveRow(i id) keptState {
	k := j.rows[i]
	if k == nil {
		return keptState{ID: i, Label: NotKept}
	}
	return keptState{i, k.time, k.row.q, k.row.p, k.row.fallback, k.label, k.y}
}

// Restore returns the join that saved the states: a whole one, then its changes. It returns nil without states.
func Restore(states []*State) (*Join, error) {
	var j *Join
	for i, s := range states {
		if j == nil {
			j = NewJoin(s.Key, s.Plan)
		}
		if s.Key != j.key || s.Plan != j.plan {
			return nil, fmt.Errorf("state %d of the outcome join is of another model, baseline or plan", i+1)
		}
		if err := j.restore(s); err != nil {
			return nil, fmt.Errorf("state %d of the outcome join: %w", i+1, err)
		}
	}
	return j, nil
}

func (j *Join) restore(s *State) error {
	j.clock, j.closed, j.live, j.through, j.totals, j.lost, j.stray = s.Clock, s.Closed, s.Live, s.Through, s.Totals, s.Lost, s.Stray
	for _, r := range s.Open {
		j.open[r.Block] = &block{Record: r}
	}
	maps.DeleteFunc(j.open, func(n int64, _ *block) bool { return n < j.closed })
	if j.symbols != nil {
		for _, one := range s.Symbols {
			if err := j.restoreSymbol(one); err != nil {
				return err
			}
		}
		if len(s.Recent)%8 != 0 {
			return fmt.Errorf("%d bytes of hashes: want a multiple of 8", len(s.Recent))
		}
		for hashes := s.Recent; len(hashes) > 0; hashes = hashes[8:] {
			hash := binary.LittleEndian.Uint64(hashes)
			j.recent[hash%recentRows] = hash
		}
		// Closing a block removes its cells.
		for _, of := range j.symbols {
			of.cells = slices.DeleteFunc(of.cells, func(c *cell) bool { return floorDiv(c.minute, j.width) < j.closed })
		}
		return j.check()
	}
	for _, one := range s.Kept {
		j.restoreRow(one)
	}
	for _, l := range s.Levels {
		if m := j.minutes[l[0]]; m != nil {
			m.level = int(l[1])
		}
	}
	for start, m := range j.minutes {
		if floorDiv(start, j.width) < j.closed {
			for _, i := range m.ids {
				delete(j.rows, i)
			}
			delete(j.minutes, start)
		}
	}
	return j.check()
}

func (j *Join) restoreSymbol(one symbolState) error {
	of := j.symbols[one.Symbol]
	if of == nil {
		of = &symbol{}
		j.symbols[one.Symbol] = of
	}
	of.newest = one.Newest
	for _, c := range one.Cells {
		at := of.at(c.Minute)
		if at == nil {
			at = &cell{minute: c.Minute}
			of.insert(at)
		}
		at.n, at.sums, at.bins = c.N, [2]sums{sumsOf(c.Negative), sumsOf(c.Positive)}, c.Bins
		for _, bin := range c.Bins {
			if bin[0] >= 2*Bins {
				return fmt.Errorf("bin %d: want at most %d", bin[0], 2*Bins-1)
			}
		}
	}
	of.cells = slices.DeleteFunc(of.cells, func(c *cell) bool { return c.minute <= of.newest-j.horizon })
	return nil
}

func (j *Join) restoreRow(one keptState) {
	start := floorDiv(one.Time, minuteMS) * minuteMS
	k := j.rows[one.ID]
	if one.Label == NotKept {
		if k != nil {
			m := j.minutes[floorDiv(k.time, minuteMS)*minuteMS]
			m.ids = slices.DeleteFunc(m.ids, func(i id) bool { return i == one.ID })
			delete(j.rows, one.ID)
		}
		return
	}
	if k != nil {
		k.label, k.y = one.Label, one.Outcome
		return
	}
	m := j.minutes[start]
	if m == nil {
		m = &minute{}
		j.minutes[start] = m
	}
	m.ids = append(m.ids, one.ID)
	j.rows[one.ID] = &kept{one.Time, weighed{one.Baseline, one.Policy, one.Fallback}, one.Label, one.Outcome}
}

// check returns an error if a row waits without its block, or the numbers of waiting rows disagree.
func (j *Join) check() error {
	waiting, pending := uint64(0), uint64(0)
	block := func(t int64, n uint64) error {
		waiting += n
		if j.open[floorDiv(t, j.width)] == nil {
			return fmt.Errorf("a row of %d waits, but its block is not open", t)
		}
		return nil
	}
	for _, of := range j.symbols {
		for _, c := range of.cells {
			if err := block(c.minute, c.n); err != nil {
				return err
			}
		}
	}
	for _, k := range j.rows {
		if k.label == Pending {
			if err := block(k.time, 1); err != nil {
				return err
			}
		}
	}
	for _, b := range j.open {
		pending += b.Labels[Pending]
	}
	if waiting != pending || pending != j.totals[Pending] {
		return fmt.Errorf("%d rows wait, but open blocks have %d and the counts %d", waiting, pending, j.totals[Pending])
	}
	return nil
}
