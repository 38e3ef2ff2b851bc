package market

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// Read reads the bars of one instrument from a file or a folder. The format is recognised by name and content:
//
//   - CSV, plain, gzip or zip, with a header: timestamp (or ts_ms, ts, open_time, time, datetime, date), open, high, low,
//     close, and optionally volume, bid and ask, in any order and case. Times are ISO 8601 or an epoch in s, ms, us or ns.
//     The files of a folder become one series.
//   - A pair of such files, one named as the bid and one as the ask; either may be given. The prices are the means of the
//     sides. The high of the mid is not known exactly if only the highs of the sides are: (bid high + ask high)/2 is at or
//     above it, because the sides need not peak at the same instant. The same holds for the low.
//   - LEAN zips (QuantConnect) of minutes or ticks, for forex and crypto: quotes, with the volume of trades if there are
//     any. If the folder has quotes, days and minutes with only trades are left out and counted.
//   - Captures of Binance's bookTicker and trade streams, by receive time.
//   - Quotes (CSV with timestamp, bid, ask) as bars of their minutes: see BarBuilder.
//
// A folder with several instruments or kinds is an error that lists the choices, unless opts.Symbol picks one. A row
// that cannot be used is a *RowError, unless opts.MaxBadRows allows it.
func Read(path string, opts ReadOptions) (*Series, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	src, err := find(path, opts, func(kind) bool { return true })
	if err != nil {
		return nil, err
	}
	if opts.TradesOnly {
		if src, err = src.tradesOnly(); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	r := newReading(src, opts)
	bars, err := r.bars()
	if err != nil {
		return nil, err
	}
	if len(bars) == 0 {
		return nil, fmt.Errorf("%s: no row could be used", path)
	}
	if err := checkMinutes(bars); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if bars, err = r.withoutStrays(bars); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Series{
		Symbol: src.symbol, Bars: bars, Simulated: src.simulated(), Files: r.files,
		Dropped: r.bad.dropped(), Ignored: src.ignored(), Crossed: countCrossed(bars),
	}, nil
}

// Quotes is a set of single quotes of one instrument on disk.
type Quotes struct {
	// Symbol is the instrument.
	Symbol string
	// Simulated reports that the quotes do not come from a real market.
	Simulated bool
	// Files and Dropped are as in Series, Crossed counts quotes; they are known once All has finished.
	Files   []File
	Dropped map[string]int
	Crossed int
	src     source
	opts    ReadOptions
}

// ReadQuotes opens the single quotes of a file or a folder: LEAN tick zips, Binance captures and CSV with timestamp,
// bid, ask (bid_size, ask_size). A folder's source is chosen as in Read, among these formats only.
func ReadQuotes(path string, opts ReadOptions) (*Quotes, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	src, err := find(path, opts, kind.ticks)
	if err != nil {
		return nil, err
	}
	return &Quotes{Symbol: src.symbol, Simulated: src.simulated(), src: src, opts: opts}, nil
}

// All yields the quotes in time order; several may have the same time. An error is the last element, with a zero quote.
// Each call reads the files again.
func (q *Quotes) All() iter.Seq2[Quote, error] {
	return func(yield func(Quote, error) bool) {
		r := newReading(q.src, q.opts)
		count, crossed := 0, 0
		err := r.quotes(func(quote Quote) bool {
			count++
			if quote.Bid > quote.Ask {
				crossed++
			}
			return yield(quote, nil)
		}, nil)
		switch {
		case errors.Is(err, errStopped):
		case err != nil:
			yield(Quote{}, err)
		case count == 0:
			yield(Quote{}, fmt.Errorf("%s: no row could be used", q.src.files[0].path))
		default:
			q.Files, q.Dropped, q.Crossed = r.files, r.bad.dropped(), crossed
		}
	}
}

// errStopped reports that the receiver wants no more quotes.
var errStopped = errors.New("stopped")

func (s source) simulated() bool {
	for _, f := range s.files {
		if f.simulated {
			return true
		}
	}
	return false
}

// ignored returns the header's columns that are not read.
func (s source) ignored() []string {
	var names []string
	for _, f := range s.files {
		if f.skip == 0 {
			continue // it has no header
		}
		for _, name := range f.header.ignored() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// reading is one pass over the files of a source.
type reading struct {
	src   source
	opts  ReadOptions
	files []File
	bad   badRows
	// last is the time of the last row, in Unix milliseconds.
	last int64
	// line is the number of the current line.
	line        int
	done, total int64
}

func newReading(src source, opts ReadOptions) *reading {
	r := &reading{src: src, opts: opts, bad: badRows{allowed: opts.MaxBadRows}}
	for _, f := range src.files {
		r.total += f.size
	}
	return r
}

// bars reads the bars, whatever the kind of the source.
func (r *reading) bars() ([]Bar, error) {
	switch {
	case r.src.kind == kindBars:
		return r.barsCSV()
	case r.src.kind == kindSide:
		return r.barsOfSides()
	case r.src.kind == kindMinute:
		return r.barsLean()
	}
	var bars []Bar
	var b BarBuilder
	take := func(bar Bar, ok bool) {
		if ok {
			bars = append(bars, bar)
		}
	}
	err := r.quotes(func(q Quote) bool { take(b.Add(q)); return true }, b.Trade)
	take(b.Flush())
	return bars, err
}

// quotes reads single quotes, and passes on trades (time and size) if the source has them.
func (r *reading) quotes(yield func(Quote) bool, trade func(time int64, size float64)) error {
	var decode func(f stored) func(line string) (Quote, bool, error)
	switch r.src.kind {
	case kindQuotes:
		decode = r.quoteCSV
	case kindTick:
		decode = r.quoteLean
	default:
		decode = func(f stored) func(string) (Quote, bool, error) { return r.quoteCapture(f, trade) }
	}
	for _, f := range r.src.files {
		row := decode(f)
		err := r.rows(f, func(line string) error {
			q, ok, err := row(line)
			if err != nil || !ok {
				return err
			}
			if q.Time < r.last {
				return backwardsRow(q.Time, r.last)
			}
			r.last = q.Time
			if !yield(q) {
				return errStopped
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rows calls row with every row of a file. A *RowError drops the row, as far as the options allow; any other error ends
// the reading. At the end the file is recorded with its digest.
func (r *reading) rows(f stored, row func(line string) error) error {
	before := r.done
	a, err := openArchive(f.path, r.opts.maxBytes(), func(n int64) { r.progress(min(r.done+n, before+f.size)) })
	if err != nil {
		return err
	}
	defer a.Close()
	l := newLines(a)
	for range f.skip {
		if _, err := l.next(); err != nil {
			return pathError(f.path, err)
		}
	}
	previous := ""
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return pathError(f.path, err)
		}
		r.line = l.no
		if line == previous && f.kind != kindTick { // OANDA's ticks repeat if a price changes and returns within a millisecond
			err = badRow(ReasonDuplicate, "repeats the previous row byte for byte")
		} else {
			err = row(line)
		}
		previous = line
		if err := r.heed(located(err, f.path, l.no)); err != nil {
			return err
		}
	}
	digest, err := a.digest()
	if err != nil {
		return err
	}
	r.progress(before + f.size)
	r.files = append(r.files, File{Path: f.path, SHA256: digest})
	return nil
}

// heed counts a bad row, and returns every other error.
func (r *reading) heed(err error) error {
	var bad *RowError
	if errors.As(err, &bad) {
		return r.bad.add(bad)
	}
	return err
}

func (r *reading) progress(done int64) {
	if r.done = done; r.opts.Progress != nil {
		r.opts.Progress(done, r.total)
	}
}

// after checks that the starts of bars ascend.
func (r *reading) after(start int64, column, text string) error {
	switch {
	case start == r.last:
		return badCell(ReasonRepeated, column, text, "repeats the minute of the previous row with other values")
	case start < r.last:
		return badCell(ReasonBackwards, column, text, "goes back in time: the previous row is at "+utc(r.last))
	}
	return nil
}

func backwardsRow(time, last int64) error {
	return badRow(ReasonBackwards, "goes back in time: it is at "+utc(time)+", the previous row at "+utc(last))
}

// checkMinutes finds bars that are longer than a minute, which single times do not show.
func checkMinutes(bars []Bar) error {
	const enough = 10 // fewer could be isolated minutes
	if len(bars) < enough {
		return nil
	}
	step := bars[1].Start - bars[0].Start
	for i := 1; i < len(bars); i++ {
		step = min(step, bars[i].Start-bars[i-1].Start)
	}
	if step > MinuteMS {
		return fmt.Errorf("the bars are at least %d minutes apart; one-minute bars are needed", step/MinuteMS)
	}
	return nil
}

const (
	// strayGapMS is the smallest distance of a stray row from the rest, and strayBars the largest number that stand
	// together: one minute less than an hour. The set as a whole must have more.
	strayGapMS = 31 * 24 * 60 * MinuteMS
	strayBars  = 59
)

// withoutStrays finds isolated bars, more than a month from all others: their time is wrong. They are bad rows.
func (r *reading) withoutStrays(bars []Bar) ([]Bar, error) {
	type group struct{ from, to int }
	var groups []group
	sound := false
	for i := range bars {
		if i == 0 || bars[i].Start-bars[i-1].Start > strayGapMS {
			groups = append(groups, group{i, i})
		}
		g := &groups[len(groups)-1]
		g.to = i + 1
		sound = sound || g.to-g.from > strayBars
	}
	if len(groups) < 2 || !sound {
		return bars, nil
	}
	kept := make([]Bar, 0, len(bars))
	for i, g := range groups {
		n := g.to - g.from
		if n > strayBars {
			kept = append(kept, bars[g.from:g.to]...)
			continue
		}
		r.bad.found += n
		r.bad.drop(ReasonStray, n)
		if r.bad.found <= r.opts.MaxBadRows {
			continue
		}
		from, to := 0, len(bars)-1 // the nearest bars on either side
		if i > 0 {
			from = g.from - 1
		}
		if i < len(groups)-1 {
			to = g.to
		}
		near := bars[from].End()
		if i == 0 {
			near = bars[to].Start
		}
		rows := fmt.Sprintf("%d rows from %s on stand alone", n, utc(bars[g.from].Start))
		if n == 1 {
			rows = fmt.Sprintf("the row at %s stands alone", utc(bars[g.from].Start))
		}
		return nil, fmt.Errorf("%s: the nearest other row is at %s; correct the time, remove the row, or allow bad rows", rows, utc(near))
	}
	return kept, nil
}

func countCrossed(bars []Bar) int {
	n := 0
	for _, b := range bars {
		if b.Bid > b.Ask {
			n++
		}
	}
	return n
}
