package market

import (
	"fmt"
	"slices"
	"strings"
)

// header holds the positions of the columns of a CSV; -1 means missing.
type header struct {
	names                  []string // as written
	time                   int
	open, high, low, close int
	bid, ask               int
	bidSize, askSize       int
	volume                 int
	instrument             int
}

// columnNames are the lower-case names of a column, the preferred one first.
var columnNames = struct{ time, volume, bidSize, askSize, instrument []string }{
	time:    []string{"ts_ms", "timestamp", "ts", "open_time", "time", "datetime", "date"},
	volume:  []string{"volume", "vol"},
	bidSize: []string{"bid_size", "bidsize", "bid_qty"},
	askSize: []string{"ask_size", "asksize", "ask_qty"},

	instrument: []string{"symbol", "instrument", "ticker", "pair"},
}

// klineNames are the columns of Binance's bar dumps; older dumps have no header.
var klineNames = []string{
	"open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
	"taker_buy_volume", "taker_buy_quote_volume", "ignore",
}

// parseHeader finds the columns of bars or quotes.
func parseHeader(names []string) (header, error) {
	lower := make([]string, len(names))
	for i, n := range names {
		lower[i] = strings.ToLower(strings.TrimSpace(n))
	}
	at := func(known ...string) int {
		for _, k := range known {
			if i := slices.Index(lower, k); i >= 0 {
				return i
			}
		}
		return -1
	}
	h := header{
		names: names,
		time:  at(columnNames.time...), open: at("open"), high: at("high"), low: at("low"), close: at("close"),
		bid: at("bid"), ask: at("ask"), volume: at(columnNames.volume...),
		bidSize: at(columnNames.bidSize...), askSize: at(columnNames.askSize...),
		instrument: at(columnNames.instrument...),
	}
	for _, i := range []int{h.time, h.open, h.high, h.low, h.close, h.bid, h.ask, h.volume, h.bidSize, h.askSize} {
		if i >= 0 && slices.Contains(lower[i+1:], lower[i]) {
			return h, fmt.Errorf("column %q is listed twice", names[i])
		}
	}
	return h, h.complete()
}

// complete returns an error that names the missing columns of bars or quotes, whichever the header resembles more.
func (h header) complete() error {
	type need struct {
		name string
		at   int
	}
	bars := []need{{"open", h.open}, {"high", h.high}, {"low", h.low}, {"close", h.close}}
	quotes := []need{{"bid", h.bid}, {"ask", h.ask}}
	missing := func(needs []need) (names []string) {
		for _, n := range needs {
			if n.at < 0 {
				names = append(names, fmt.Sprintf("%q", n.name))
			}
		}
		return names
	}
	noBars, noQuotes := missing(bars), missing(quotes)
	if len(noBars) == len(bars) && len(noQuotes) == len(quotes) {
		return h.unknown()
	}
	lacks := noBars
	if len(noBars) == len(bars) || len(noQuotes) == 1 {
		lacks = noQuotes
	}
	if h.time < 0 {
		lacks = append([]string{`"timestamp"`}, lacks...)
	}
	if len(lacks) > 0 {
		return fmt.Errorf("no column %s; the header has: %s", strings.Join(lacks, ", "), strings.Join(h.names, ", "))
	}
	return nil
}

// unknown is the error of a header without any column that is known; another separator than a comma hides them all.
func (h header) unknown() error {
	for _, separator := range []string{";", "\t", "|"} {
		if len(h.names) == 1 && strings.Count(h.names[0], separator) > 1 {
			return fmt.Errorf("the columns are separated by %q: want commas, and a point before the decimals", separator)
		}
	}
	return errUnknownFormat
}

// ignored returns the columns that are not read.
func (h header) ignored() []string {
	var names []string
	for i, name := range h.names {
		used := []int{h.time, h.open, h.high, h.low, h.close, h.bid, h.ask, h.bidSize, h.askSize, h.volume, h.instrument}
		if !slices.Contains(used, i) {
			names = append(names, name)
		}
	}
	return names
}

// quotesOnly reports whether the file has quotes but no bars.
func (h header) quotesOnly() bool { return h.open < 0 }

// quoted reports whether the file has a bid and an ask, with or without prices.
func (h header) quoted() bool { return h.bid >= 0 }

// only returns a function that rejects rows of a second instrument, if the file names its instruments.
func (h header) only() func(cells []string) error {
	first := ""
	return func(cells []string) error {
		if h.instrument < 0 {
			return nil
		}
		text := cells[h.instrument]
		if first == "" {
			first = text
		}
		if text != first {
			return badCell(ReasonSymbol, h.names[h.instrument], text, fmt.Sprintf("is another instrument than %q in the rows before: use one file per instrument", first))
		}
		return nil
	}
}
