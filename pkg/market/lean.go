package market

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fxcmClock is the offset of the clock in LEAN's FXCM zips from UTC: New York without daylight saving.
const fxcmClock = -5 * time.Hour

// The columns of the LEAN kinds, which have no header.
var (
	leanQuoteMinute = []string{
		"time", "bid open", "bid high", "bid low", "bid close", "bid size",
		"ask open", "ask high", "ask low", "ask close", "ask size",
	}
	leanTradeMinute = []string{"time", "open", "high", "low", "close", "volume"}
	leanTick        = []string{"time", "bid", "ask"}
	leanTickSized   = []string{"time", "bid", "bid size", "ask", "ask size"}
)

// recogniseLean parses the name of the text inside: day, symbol, minute or tick, quote or trade.
func (s *stored) recogniseLean(m []string) error {
	day, err := time.Parse("20060102", m[1])
	if err != nil {
		return fmt.Errorf("the name %s does not begin with a day", s.name)
	}
	s.day, s.first, s.symbol = day, day.UnixMilli(), strings.ToUpper(m[2])
	s.kind, s.trades = kindMinute, m[4] == "trade"
	if m[3] == "tick" {
		s.kind = kindTick
		if s.trades {
			return fmt.Errorf("single trades (%s) are not read; use the minutes or the quotes", s.name)
		}
	}
	s.skip = 0
	folders := strings.Split(filepath.ToSlash(strings.ToLower(filepath.Dir(absolute(s.path)))), "/")
	s.fxcm = slices.Contains(folders, "fxcm")
	return nil
}

// absolute returns the path from the root, so that a folder is found even if the given path does not spell it out.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (s stored) leanClock(opts ReadOptions) clock {
	if s.fxcm {
		return opts.clock(fxcmClock)
	}
	return opts.clock(0)
}

// leanTime reads a row's milliseconds since midnight as Unix milliseconds UTC.
func leanTime(f stored, c clock, text string) (int64, error) {
	x, err := parseNumber("time", text)
	if err != nil {
		return 0, err
	}
	if x < 0 || x >= 86_400_000 {
		return 0, badCell(ReasonTime, "time", text, "is not a time of day: expected ms since midnight, 0 to 86399999")
	}
	return f.day.UnixMilli() + int64(x) - c.ahead, nil
}

// barsLean reads LEAN minutes. If there are quotes, the trades give only the volume.
func (r *reading) barsLean() ([]Bar, error) {
	trades, err := r.leanMinutes(true)
	if err != nil || !slices.ContainsFunc(r.src.files, func(f stored) bool { return !f.trades }) {
		return trades, err
	}
	bars, err := r.leanMinutes(false)
	if err != nil {
		return nil, err
	}
	volume := make(map[int64]float64, len(trades))
	for _, t := range trades {
		volume[t.Start] = t.Volume
	}
	for i := range bars {
		if v, ok := volume[bars[i].Start]; ok {
			bars[i].Volume = v
			delete(volume, bars[i].Start)
		}
	}
	r.bad.drop(ReasonNoQuote, len(volume))
	return bars, nil
}

// tradesOnly removes the quotes of a LEAN folder. Other sources have only one of the two.
func (s source) tradesOnly() (source, error) {
	if s.kind != kindMinute {
		return s, errors.New("trades only is for LEAN zips, which have both")
	}
	s.files = slices.DeleteFunc(slices.Clone(s.files), func(f stored) bool { return !f.trades })
	if len(s.files) == 0 {
		return s, errors.New("has quotes and no trades")
	}
	return s, nil
}

// leanMinutes reads the files of the trades, or those of the quotes.
func (r *reading) leanMinutes(trades bool) ([]Bar, error) {
	r.last = 0
	var bars []Bar
	for _, f := range r.src.files {
		if f.trades != trades {
			continue
		}
		decode := leanQuoteBar
		if trades {
			decode = leanTradeBar
		}
		c, keep := f.leanClock(r.opts), r.opts.keepCrossed(f.fxcm)
		var cells []string
		err := r.rows(f, func(line string) (err error) {
			if cells, err = fields(line, cells); err != nil {
				return badRow(ReasonColumns, "has a quotation mark out of place")
			}
			bar, err := decode(cells, keep)
			if err != nil {
				return err
			}
			if bar.Start, err = leanTime(f, c, cells[0]); err != nil {
				return err
			}
			if bar.Start%MinuteMS != 0 {
				return badCell(ReasonMinute, "time", cells[0], "is not on a minute")
			}
			if err := r.after(bar.Start, "time", cells[0]); err != nil {
				return err
			}
			bars, r.last = append(bars, bar), bar.Start
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return bars, nil
}

func leanTradeBar(cells []string, _ bool) (Bar, error) {
	if err := columnCount(cells, leanTradeMinute); err != nil {
		return Bar{}, err
	}
	b, err := leanPrices(cells[1:5], leanTradeMinute[1:5], "")
	if err == nil {
		b.Volume, err = parseSize("volume", cells[5])
	}
	return b, err
}

func leanQuoteBar(cells []string, keepCrossed bool) (Bar, error) {
	if err := columnCount(cells, leanQuoteMinute); err != nil {
		return Bar{}, err
	}
	bid, err := leanPrices(cells[1:5], leanQuoteMinute[1:5], "bid ")
	if err != nil {
		return Bar{}, err
	}
	ask, err := leanPrices(cells[6:10], leanQuoteMinute[6:10], "ask ")
	if err != nil {
		return Bar{}, err
	}
	return midBar(bid, ask), checkQuote("bid close", bid.Close, ask.Close, keepCrossed)
}

// leanPrices reads open, high, low and close.
func leanPrices(cells, columns []string, prefix string) (Bar, error) {
	var p [4]float64
	for i := range p {
		var err error
		if p[i], err = parsePrice(columns[i], cells[i]); err != nil {
			return Bar{}, err
		}
	}
	b := Bar{Open: p[0], High: p[1], Low: p[2], Close: p[3]}
	return b, checkRange(b, prefix)
}

// quoteLean returns a function that reads a row as a quote.
func (r *reading) quoteLean(f stored) func(line string) (Quote, bool, error) {
	c, keep := f.leanClock(r.opts), r.opts.keepCrossed(f.fxcm)
	var cells []string
	return func(line string) (q Quote, ok bool, err error) {
		if cells, err = fields(line, cells); err != nil {
			return q, false, badRow(ReasonColumns, "has a quotation mark out of place")
		}
		ask := 2
		if len(cells) == len(leanTickSized) {
			ask = 3
		} else if err := columnCount(cells, leanTick); err != nil {
			return q, false, err
		}
		if q.Time, err = leanTime(f, c, cells[0]); err != nil {
			return q, false, err
		}
		if q.Bid, err = parsePrice("bid", cells[1]); err != nil {
			return q, false, err
		}
		if q.Ask, err = parsePrice("ask", cells[ask]); err != nil {
			return q, false, err
		}
		if ask == 3 {
			if q.BidSize, err = parseSize("bid size", cells[2]); err != nil {
				return q, false, err
			}
			if q.AskSize, err = parseSize("ask size", cells[4]); err != nil {
				return q, false, err
			}
		}
		err = checkQuote("bid", q.Bid, q.Ask, keep)
		return q, err == nil, err
	}
}

func columnCount(cells, columns []string) error {
	if len(cells) != len(columns) {
		return badRow(ReasonColumns, fmt.Sprintf("has %d columns, expected %d (%s)", len(cells), len(columns), strings.Join(columns, ", ")))
	}
	return nil
}
