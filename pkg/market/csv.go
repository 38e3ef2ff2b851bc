package market

import "fmt"

// barsCSV reads CSV files of bars, one after another.
func (r *reading) barsCSV() ([]Bar, error) {
	var bars []Bar
	keep := r.opts.keepCrossed(false)
	for _, f := range r.src.files {
		row := barCSV(f.header, r.opts.clock(0), keep)
		err := r.rows(f, func(line string) error {
			bar, text, err := row(line)
			if err == nil {
				err = r.after(bar.Start, f.header.names[f.header.time], text)
			}
			if err != nil {
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

// barCSV returns a function that reads a row as a bar, with the text of its time.
func barCSV(h header, c clock, keepCrossed bool) func(line string) (Bar, string, error) {
	cells, only := make([]string, 0, len(h.names)), h.only()
	return func(line string) (b Bar, at string, err error) {
		if cells, err = h.split(line, cells); err != nil {
			return b, "", err
		}
		if err = only(cells); err != nil {
			return b, "", err
		}
		at = cells[h.time]
		if b.Start, err = c.parseMinute(h.names[h.time], at); err != nil {
			return b, at, err
		}
		for _, p := range []struct {
			to *float64
			at int
		}{{&b.Open, h.open}, {&b.High, h.high}, {&b.Low, h.low}, {&b.Close, h.close}} {
			if *p.to, err = parsePrice(h.names[p.at], cells[p.at]); err != nil {
				return b, at, err
			}
		}
		if err = checkRange(b, ""); err != nil {
			return b, at, err
		}
		if h.volume >= 0 {
			if b.Volume, err = parseSize(h.names[h.volume], cells[h.volume]); err != nil {
				return b, at, err
			}
		}
		if h.quoted() && (cells[h.bid] != "" || cells[h.ask] != "") { // if both are empty, the minute has no quote
			b.Bid, b.Ask, err = h.quote(cells, keepCrossed)
		}
		return b, at, err
	}
}

// quoteCSV returns a function that reads a row as a quote.
func (r *reading) quoteCSV(f stored) func(line string) (Quote, bool, error) {
	h, c, keep := f.header, r.opts.clock(0), r.opts.keepCrossed(false)
	cells, only := make([]string, 0, len(h.names)), h.only()
	return func(line string) (q Quote, ok bool, err error) {
		if cells, err = h.split(line, cells); err != nil {
			return q, false, err
		}
		if err = only(cells); err != nil {
			return q, false, err
		}
		if q.Time, _, err = c.parse(h.names[h.time], cells[h.time]); err != nil {
			return q, false, err
		}
		if q.Bid, q.Ask, err = h.quote(cells, keep); err != nil {
			return q, false, err
		}
		if h.bidSize >= 0 {
			if q.BidSize, err = parseSize(h.names[h.bidSize], cells[h.bidSize]); err != nil {
				return q, false, err
			}
		}
		if h.askSize >= 0 {
			q.AskSize, err = parseSize(h.names[h.askSize], cells[h.askSize])
		}
		return q, err == nil, err
	}
}

// split splits a row and checks its number of columns against the header.
func (h header) split(line string, into []string) ([]string, error) {
	cells, err := fields(line, into)
	if err != nil {
		return into, badRow(ReasonColumns, "has a quotation mark out of place")
	}
	if len(cells) != len(h.names) {
		return into, badRow(ReasonColumns, fmt.Sprintf("has %d columns, the header has %d", len(cells), len(h.names)))
	}
	return cells, nil
}

// quote reads the bid and ask of a row.
func (h header) quote(cells []string, keepCrossed bool) (bid, ask float64, err error) {
	if bid, err = parsePrice(h.names[h.bid], cells[h.bid]); err != nil {
		return 0, 0, err
	}
	if ask, err = parsePrice(h.names[h.ask], cells[h.ask]); err != nil {
		return 0, 0, err
	}
	return bid, ask, checkQuote(h.names[h.bid], bid, ask, keepCrossed)
}

// checkQuote checks bid <= ask.
func checkQuote(column string, bid, ask float64, keepCrossed bool) error {
	if bid > ask && !keepCrossed {
		return badCell(ReasonCrossed, column, number(bid), "is above the ask "+number(ask))
	}
	return nil
}
