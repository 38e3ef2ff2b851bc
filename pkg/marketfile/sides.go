package marketfile

import (
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// sided is a bar of one side with its position in the file.
type sided struct {
	market.Bar
	file string
	line int
}

// barsOfSides reads pairs of CSV files, one of the bid and one of the ask.
func (r *reading) barsOfSides() ([]market.Bar, error) {
	pairs := map[string][]stored{}
	var order []string
	for _, f := range r.src.files {
		name := sideless(f.name, f.side)
		if pairs[name] == nil {
			order = append(order, name)
		}
		pairs[name] = append(pairs[name], f)
	}
	var bars []market.Bar
	for _, name := range order {
		pair := pairs[name]
		switch {
		case len(pair) == 1:
			other := map[string]string{"bid": "ask", "ask": "bid"}[pair[0].side]
			return nil, fmt.Errorf("%s: has only the %s; there is no %s file in the same folder", pair[0].path, pair[0].side, other)
		case len(pair) > 2 || pair[0].side == pair[1].side:
			return nil, fmt.Errorf("%s: is the same side as %s; remove one", pair[0].path, pair[1].path)
		case pair[0].side == "ask":
			pair[0], pair[1] = pair[1], pair[0]
		}
		bid, err := r.side(pair[0])
		if err != nil {
			return nil, err
		}
		ask, err := r.side(pair[1])
		if err != nil {
			return nil, err
		}
		joined, err := r.join(bid, ask)
		if err != nil {
			return nil, err
		}
		for _, b := range joined {
			if len(bars) > 0 && b.Start <= bars[len(bars)-1].Start {
				return nil, overlaps(pair[0], b.Start)
			}
			bars = append(bars, b)
		}
	}
	return bars, nil
}

// side reads the bars of one side.
func (r *reading) side(f stored) ([]sided, error) {
	r.last = 0
	var bars []sided
	err := r.eachBar(f, func(b market.Bar) { bars = append(bars, sided{b, f.where(), r.line}) })
	if f.layout.newestFirst {
		slices.Reverse(bars)
	}
	return bars, err
}

// join returns mid bars for the minutes on both sides. A minute on only one side is a bad row.
func (r *reading) join(bid, ask []sided) ([]market.Bar, error) {
	var bars []market.Bar
	for len(bid) > 0 || len(ask) > 0 {
		var bad *RowError
		switch {
		case len(ask) == 0 || len(bid) > 0 && bid[0].Start < ask[0].Start:
			bad = oneSided(bid[0], "ask")
			bid = bid[1:]
		case len(bid) == 0 || ask[0].Start < bid[0].Start:
			bad = oneSided(ask[0], "bid")
			ask = ask[1:]
		default:
			bars = append(bars, midBar(bid[0].Bar, ask[0].Bar))
			bid, ask = bid[1:], ask[1:]
			continue
		}
		if err := r.bad.add(bad); err != nil {
			return nil, err
		}
	}
	return bars, nil
}

func oneSided(s sided, missing string) *RowError {
	return &RowError{
		File: s.file, Line: s.line, Reason: ReasonOneSide,
		Problem: fmt.Sprintf("is at %s, a minute that the %s file does not have", utc(s.Start), missing),
	}
}

// midBar returns the mid bar of a bid bar and an ask bar of one minute. Volumes add up.
func midBar(bid, ask market.Bar) market.Bar {
	return market.Bar{
		Start: bid.Start,
		Open:  (bid.Open + ask.Open) / 2, High: (bid.High + ask.High) / 2,
		Low: (bid.Low + ask.Low) / 2, Close: (bid.Close + ask.Close) / 2,
		Bid: bid.Close, Ask: ask.Close,
		Volume: bid.Volume + ask.Volume,
	}
}
