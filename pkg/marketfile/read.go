package marketfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/tabular"
)

// Read reads the bars of one instrument from a file or a folder. The format is recognised by its content:
//
//   - Tables, as [tabular.Open] reads them, of bars: a time, open, high, low, close, and optionally volume, bid and ask. The
//     columns are found by the names that exports use, otherwise by how their numbers behave, or by opts.Columns. What is
//     guessed is in Series.Taken. The files of a folder or a zip become one series.
//   - Tables of bars of both sides, in the columns of one file, or in a pair of files of which one is named as the bid and
//     one as the ask; either may be given. The prices are the means of the sides. The high of the mid is not known exactly
//     if only the highs of the sides are: (bid high + ask high)/2 is at or above it, because the sides need not peak at the
//     same instant. The same holds for the low.
//   - LEAN zips (QuantConnect) of minutes or ticks, for forex and crypto: quotes, with the volume of trades if there are
//     any. If the folder has quotes, days and minutes with only trades are left out and counted.
//   - Captures of Binance's bookTicker and trade streams, by receive time.
//   - Tables of quotes (time, bid, ask) as bars of their minutes: see BarBuilder.
//
// A folder with several instruments or kinds is an error that lists the choices, unless opts.Symbol picks one. A row
// that cannot be used is a *RowError, unless opts.MaxBadRows allows it.
func Read(path string, opts Options) (*market.Series, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	src, err := find(path, opts)
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
	return &market.Series{
		Symbol: src.symbol, Bars: bars, Simulated: src.simulated(), Files: r.files,
		Dropped: r.bad.dropped(), Ignored: src.ignored(), Taken: src.taken(), Crossed: countCrossed(bars),
	}, nil
}

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
	return s.each(func(f stored) []string { return f.layout.ignored() })
}

// taken returns what was guessed about the files, each guess once.
func (s source) taken() []string {
	return s.each(func(f stored) []string { return f.taken })
}

// each returns the texts of all files, each once.
func (s source) each(texts func(stored) []string) []string {
	var all []string
	for _, f := range s.files {
		for _, text := range texts(f) {
			if !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}

// reading is one pass over the files of a source.
type reading struct {
	src   source
	opts  Options
	files []market.File
	bad   badRows
	// last is the time of the last row, in Unix milliseconds.
	last int64
	// line is the number of the current line.
	line        int
	done, total int64
}

func newReading(src source, opts Options) *reading {
	r := &reading{src: src, opts: opts, bad: badRows{allowed: opts.MaxBadRows}}
	for _, f := range src.files {
		r.total += f.size
	}
	return r
}

// bars reads the bars, whatever the kind of the source.
func (r *reading) bars() ([]market.Bar, error) {
	switch r.src.kind {
	case kindBars:
		return r.barsOf(r.src.files)
	case kindSide:
		return r.barsOfSides()
	case kindMinute:
		return r.withTrades()
	case kindQuotes, kindTick, kindBinance:
	}
	var bars []market.Bar
	var b market.BarBuilder
	take := func(bar market.Bar, ok bool) {
		if ok {
			bars = append(bars, bar)
		}
	}
	err := r.quotes(func(q market.Quote) { take(b.Add(q)) }, b.Trade)
	take(b.Flush())
	return bars, err
}

// barsOf reads files of bars, one after another.
func (r *reading) barsOf(files []stored) ([]market.Bar, error) {
	var bars []market.Bar
	for _, f := range files {
		before := len(bars)
		if err := r.eachBar(f, func(b market.Bar) { bars = append(bars, b) }); err != nil {
			return nil, err
		}
		if !f.layout.newestFirst {
			continue
		}
		slices.Reverse(bars[before:])
		if before > 0 && before < len(bars) && bars[before].Start <= bars[before-1].Start {
			return nil, overlaps(f, bars[before].Start)
		}
	}
	return bars, nil
}

func overlaps(f stored, at int64) error {
	return fmt.Errorf("%s: overlaps in time with the files before it, at %s", f.where(), utc(at))
}

// eachBar reads a file of bars, in its own order.
func (r *reading) eachBar(f stored, take func(market.Bar)) error {
	d := newDecoder(f, r.opts)
	newest, last := r.last, int64(math.MaxInt64)
	err := r.rows(f, func(line string) error {
		bar, text, err := d.bar(line)
		switch {
		case err != nil:
		case f.layout.newestFirst:
			err = order(bar.Start, last, -1, d.name(roleTime), text)
		default:
			err = order(bar.Start, newest, 1, d.name(roleTime), text)
		}
		if err != nil {
			return err
		}
		last, newest = bar.Start, max(newest, bar.Start)
		take(bar)
		return nil
	})
	r.last = newest
	return err
}

// quotes reads single quotes, and passes on trades (time and size) if the source has them.
func (r *reading) quotes(yield func(market.Quote), trade func(time int64, size float64)) error {
	for _, f := range r.src.files {
		row := newDecoder(f, r.opts).quote
		if f.kind == kindBinance {
			row = r.quoteCapture(f, trade)
		}
		var all []market.Quote // of a file whose newest row comes first
		next, last := yield, int64(math.MaxInt64)
		if f.layout.newestFirst {
			next = func(q market.Quote) { all = append(all, q) }
		}
		err := r.rows(f, func(line string) error {
			q, ok, err := row(line)
			if err != nil || !ok {
				return err
			}
			switch {
			case f.layout.newestFirst && q.Time > last:
				return badRow(ReasonBackwards, "goes forward in time, in a file whose newest row comes first: it is at "+utc(q.Time)+", the previous row at "+utc(last))
			case f.layout.newestFirst:
				last = q.Time
			case q.Time < r.last:
				return backwardsRow(q.Time, r.last)
			default:
				r.last = q.Time
			}
			next(q)
			return nil
		})
		if err != nil {
			return err
		}
		if len(all) > 0 && last < r.last {
			return overlaps(f, last)
		}
		for _, q := range slices.Backward(all) {
			r.last = q.Time
			yield(q)
		}
	}
	return nil
}

// rows calls row with every row of a file. A *RowError drops the row, as far as the options allow; any other error ends
// the reading. At the end the file is recorded with its digest.
func (r *reading) rows(f stored, row func(line string) error) error {
	before := r.done
	a, err := tabular.Open(f.path, tabular.Options{
		MaxBytes: r.opts.MaxBytes, Member: f.member,
		Read: func(n int64) { r.progress(min(r.done+n, before+f.size)) },
	})
	if err != nil {
		return err
	}
	defer a.Close()
	l := tabular.NewLines(a)
	for range f.skip {
		if _, err := l.Next(); err != nil {
			return pathError(f.where(), err)
		}
	}
	previous := ""
	for {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return pathError(f.where(), err)
		}
		r.line = l.Number()
		if line == previous && f.kind != kindTick { // OANDA's ticks repeat if a price changes and returns within a millisecond
			err = badRow(ReasonDuplicate, "repeats the previous row byte for byte")
		} else {
			err = row(line)
		}
		previous = line
		if err := r.heed(located(err, f.where(), l.Number())); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(r.files, func(read market.File) bool { return read.Path == f.path }) { // a zip is one file
		digest, err := a.Digest()
		if err != nil {
			return err
		}
		r.files = append(r.files, market.File{Path: f.path, SHA256: digest})
	}
	r.progress(before + f.size)
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

// order checks that the starts of bars go one way: forward with step 1, back with -1.
func order(start, last int64, step int, column, text string) error {
	switch c := cmp.Compare(start, last); {
	case c == 0:
		return badCell(ReasonRepeated, column, text, "repeats the minute of the previous row with other values")
	case c != step && step > 0:
		return badCell(ReasonBackwards, column, text, "goes back in time: the previous row is at "+utc(last))
	case c != step:
		return badCell(ReasonBackwards, column, text, "goes forward in time, in a file whose newest row comes first: the previous row is at "+utc(last))
	}
	return nil
}

func backwardsRow(time, last int64) error {
	return badRow(ReasonBackwards, "goes back in time: it is at "+utc(time)+", the previous row at "+utc(last))
}

// checkMinutes finds bars that are longer than a minute, which single times do not show.
func checkMinutes(bars []market.Bar) error {
	const enough = 10 // fewer could be isolated minutes
	if len(bars) < enough {
		return nil
	}
	step := bars[1].Start - bars[0].Start
	for i := 1; i < len(bars); i++ {
		step = min(step, bars[i].Start-bars[i-1].Start)
	}
	if step > market.MinuteMS {
		return fmt.Errorf("the bars are at least %d minutes apart; one-minute bars are needed", step/market.MinuteMS)
	}
	return nil
}

const (
	// strayGapMS is the smallest distance of a stray row from the rest, and strayBars the largest number that stand
	// together: one minute less than an hour. The set as a whole must have more.
	strayGapMS = 31 * 24 * 60 * market.MinuteMS
	strayBars  = 59
)

// withoutStrays finds isolated bars, more than a month from all others: their time is wrong. They are bad rows.
func (r *reading) withoutStrays(bars []market.Bar) ([]market.Bar, error) {
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
	kept := make([]market.Bar, 0, len(bars))
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

func countCrossed(bars []market.Bar) int {
	n := 0
	for _, b := range bars {
		if b.Bid > b.Ask {
			n++
		}
	}
	return n
}
