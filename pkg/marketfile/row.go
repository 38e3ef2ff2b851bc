package marketfile

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/tabular"
)

// decoder reads the rows of one file.
type decoder struct {
	layout
	clock clock
	// keepCrossed keeps rows whose bid is above their ask: from FXCM, whose sides are recorded independently (1 % of the minutes
	// of gbpusd-fxcm-1m-bidask, 6 % of the minutes and 11 % of the ticks of eurusd-quotes-2014-05/fxcm), and from every pair of a
	// bid and an ask file. From other sources they are bad rows.
	keepCrossed bool
	// symbol is the instrument of the previous rows, if the file names it.
	symbol string
	cells  []string
}

func newDecoder(f stored, opts Options) *decoder {
	return &decoder{layout: f.layout, clock: f.clock(opts), keepCrossed: f.fxcm || f.kind == kindSide}
}

// split splits a row, and checks its number of columns and its instrument.
func (d *decoder) split(line string) (err error) {
	if d.cells, err = tabular.Split(line, d.separator, d.cells); err != nil {
		return badRow(ReasonColumns, "has a quotation mark out of place")
	}
	switch {
	case len(d.cells) == len(d.names):
	case d.headed:
		return badRow(ReasonColumns, fmt.Sprintf("has %d columns, the header has %d", len(d.cells), len(d.names)))
	default:
		return badRow(ReasonColumns, fmt.Sprintf("has %d columns, want %d (%s)", len(d.cells), len(d.names), strings.Join(d.names, ", ")))
	}
	if d.at[roleSymbol] < 0 {
		return nil
	}
	text := d.cells[d.at[roleSymbol]]
	if d.symbol == "" {
		d.symbol = strings.Clone(text)
	}
	if text != d.symbol {
		return badCell(ReasonSymbol, d.name(roleSymbol), text, fmt.Sprintf("is another instrument than %q in the rows before: use one file per instrument", d.symbol))
	}
	return nil
}

// timeText returns the text of the row's time, with its day if that is in another column.
func (d *decoder) timeText() string {
	text := d.cells[d.at[roleTime]]
	if d.at[roleDay] >= 0 {
		return strings.TrimSpace(d.cells[d.at[roleDay]]) + " " + strings.TrimSpace(text)
	}
	return text
}

// bar reads a row as a bar, with the text of its time.
func (d *decoder) bar(line string) (b market.Bar, at string, err error) {
	if err = d.split(line); err != nil {
		return b, "", err
	}
	at = d.timeText()
	start, err := d.clock.parseMinute(d.name(roleTime), at)
	if err != nil {
		return b, at, err
	}
	switch {
	case d.sided():
		b, err = d.mid()
	default:
		b, err = d.prices(pricesOfBar, "")
		if err == nil && d.quoted() && (d.cells[d.at[roleBid]] != "" || d.cells[d.at[roleAsk]] != "") { // if both are empty, the minute has no quote
			b.Bid, b.Ask, err = d.bidAsk()
		}
	}
	if err == nil {
		b.Volume, err = d.size(roleVolume)
	}
	b.Start = start
	return b, at, err
}

// mid reads the prices of both sides.
func (d *decoder) mid() (market.Bar, error) {
	bid, err := d.prices(pricesOfBid, "bid ")
	if err != nil {
		return bid, err
	}
	ask, err := d.prices(pricesOfAsk, "ask ")
	if err != nil {
		return ask, err
	}
	return midBar(bid, ask), checkQuote(d.name(roleBid), bid.Close, ask.Close, d.keepCrossed)
}

// prices reads open, high, low and close.
func (d *decoder) prices(from []role, prefix string) (b market.Bar, err error) {
	for i, to := range []*float64{&b.Open, &b.High, &b.Low, &b.Close} {
		if *to, err = d.price(from[i]); err != nil {
			return b, err
		}
	}
	return b, checkRange(b, prefix)
}

func (d *decoder) price(r role) (float64, error) {
	return parsePrice(d.name(r), point(d.cells[d.at[r]], d.comma))
}

// size reads a size or volume; it is 0 (unknown) without such a column.
func (d *decoder) size(r role) (float64, error) {
	if d.at[r] < 0 {
		return 0, nil
	}
	return parseSize(d.name(r), point(d.cells[d.at[r]], d.comma))
}

func (d *decoder) bidAsk() (bid, ask float64, err error) {
	if bid, err = d.price(roleBid); err != nil {
		return 0, 0, err
	}
	if ask, err = d.price(roleAsk); err != nil {
		return 0, 0, err
	}
	return bid, ask, checkQuote(d.name(roleBid), bid, ask, d.keepCrossed)
}

// quote reads a row as a quote.
func (d *decoder) quote(line string) (q market.Quote, ok bool, err error) {
	if err = d.split(line); err != nil {
		return q, false, err
	}
	if q.Time, _, err = d.clock.parse(d.name(roleTime), d.timeText()); err != nil {
		return q, false, err
	}
	if q.Bid, q.Ask, err = d.bidAsk(); err != nil {
		return q, false, err
	}
	if q.BidSize, err = d.size(roleBidSize); err != nil {
		return q, false, err
	}
	q.AskSize, err = d.size(roleAskSize)
	return q, err == nil, err
}

// checkQuote checks bid <= ask.
func checkQuote(column string, bid, ask float64, keepCrossed bool) error {
	if bid > ask && !keepCrossed {
		return badCell(ReasonCrossed, column, number(bid), "is above the ask "+number(ask))
	}
	return nil
}
