package retrain

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Log describes what was read from a feature log.
type Log struct {
	// FirstDate and LastDate are the first and the last UTC day of arrival that were read.
	FirstDate string `json:"first_date"`
	LastDate  string `json:"last_date"`
	// Rows is the number of rows of the symbol. Of these, Used set the price of their minute, Replaced were superseded by
	// later rows of the same minute, and Unusable had no mid or spread.
	Rows     int `json:"rows"`
	Used     int `json:"used"`
	Replaced int `json:"replaced"`
	Unusable int `json:"unusable"`
	// Untimely is the number of rows skipped because their time is impossible.
	Untimely int `json:"untimely,omitempty"`
	// Sources counts the rows by source: "live", "replay", "simulated", or "unknown" if the row names none.
	Sources featurelog.Sources `json:"sources,omitempty"`
	// Schemas counts the rows by schema.
	Schemas map[string]int `json:"schemas"`
	// Label describes how the label was computed.
	Label string `json:"label"`
}

// logLabel describes the labels of a log. They differ from those of market files: the range is a little smaller, because
// the log lacks the highs and lows within a minute. The base rate is the same, because the threshold is a quantile of
// these ranges.
const logLabel = "range of the closing mids of the minutes"

// FromLog builds market data from an executor's feature log. The bar of a minute is the last mid of the minute with its
// spread. A request exactly on the minute belongs to the minute that ends there. Features and labels are then computed as for
// any other market. The logged features alone are not enough, because a label needs later prices.
//
// FromLog reads the newest days of arrival and one more, or all if days is 0. symbol may be empty if the log has only one.
// The error is a [*RefusalError] if the log is empty, has several symbols, or has no mid and spread, neither as raw inputs
// nor as features.
func FromLog(of featurelog.Log, symbol string, days int) (*experiment.Data, *Log, error) {
	dates, err := of.Days()
	if err != nil {
		return nil, nil, err
	}
	if len(dates) == 0 {
		return nil, nil, &RefusalError{[]string{of.String() + " has no date=... folder: it is not a feature log, or it is empty"}, "give the folder that the executor logs to"}
	}
	if days > 0 && len(dates) > days+1 {
		dates = dates[len(dates)-days-1:]
	}
	from, to := dates[0], dates[len(dates)-1].AddDate(0, 0, 1)
	r := &logReader{symbol: symbol, minutes: map[int64]logged{}, symbols: map[string]int{}, log: &Log{
		FirstDate: dates[0].Format(time.DateOnly), LastDate: dates[len(dates)-1].Format(time.DateOnly),
		Schemas: map[string]int{}, Sources: featurelog.Sources{}, Label: logLabel,
	}}
	for row, err := range of.Read(from, to) {
		if err != nil {
			return nil, nil, fmt.Errorf("feature log: %w", err)
		}
		r.take(row)
	}
	if err := r.refuse(); err != nil {
		return nil, nil, err
	}
	series := &market.Series{Symbol: r.only(), Bars: r.bars()}
	inputs, err := of.Inputs(from, to)
	if err != nil {
		return nil, nil, err
	}
	for _, in := range inputs {
		series.Files = append(series.Files, market.File(in))
	}
	series.Simulated = r.log.Source() == evidence.Simulated
	return experiment.NewData(series, experiment.RegistryName(series.Symbol, "log")), r.log, nil
}

// Source returns the source that evidence of the log must name. It is live only if every row is.
func (l *Log) Source() evidence.Source { return l.Sources.Evidence() }

// logReader keeps the last price of every minute.
type logReader struct {
	symbol  string
	log     *Log
	symbols map[string]int
	minutes map[int64]logged // by start of the minute
}

// logged is a price and its time in Unix milliseconds.
type logged struct {
	at          int64
	mid, spread float64
}

func (r *logReader) take(row featurelog.Row) {
	r.symbols[row.Symbol]++
	if r.symbol != "" && row.Symbol != r.symbol {
		return
	}
	r.log.Rows++
	r.log.Schemas[row.Schema.Name]++
	at, ok := row.Time()
	if !ok {
		r.log.Untimely++
		return
	}
	experiment.MarkSimulated(&row)
	r.log.Sources.Add(&row)
	price := logged{at: at.UnixMilli()}
	price.mid, price.spread = row.Price()
	if !(price.mid > 0 && price.mid <= math.MaxFloat64 && math.Abs(price.spread) < 1e4) {
		r.log.Unusable++
		return
	}
	// A price at 10:05:00 is the close of 10:04, because decisions are made at the end of a minute.
	minute := (price.at - 1) / market.MinuteMS * market.MinuteMS
	old, seen := r.minutes[minute]
	if seen {
		r.log.Replaced++
	}
	if !seen || price.at >= old.at {
		r.minutes[minute] = price
	}
}

// refuse returns an error if the rows cannot be turned into market data.
func (r *logReader) refuse() error {
	names := slices.Sorted(maps.Keys(r.symbols))
	switch {
	case r.log.Rows == 0 && r.symbol != "" && len(names) > 0:
		return &RefusalError{[]string{fmt.Sprintf("the log has no symbol %q: it has %s", r.symbol, strings.Join(names, ", "))}, "--symbol names one of them"}
	case r.log.Rows == 0:
		return &RefusalError{[]string{"the log has no rows"}, "give the folder that the executor logs to"}
	case r.symbol == "" && len(names) > 1:
		return &RefusalError{[]string{fmt.Sprintf("the log has several symbols: %q", names)}, "--symbol names one of them"}
	case len(r.minutes) == 0:
		return &RefusalError{
			[]string{fmt.Sprintf("no row of the log has a mid and a spread_bp (schemas %s): the label needs the price, to see how far it moves",
				strings.Join(slices.Sorted(maps.Keys(r.log.Schemas)), ", "))},
			"send quotes, or mid and spread_bp with the features, or retrain from the market itself with --data",
		}
	}
	return nil
}

// only returns the symbol of the rows.
func (r *logReader) only() string {
	if r.symbol != "" {
		return r.symbol
	}
	for name := range r.symbols {
		return name
	}
	return ""
}

func (r *logReader) bars() []market.Bar {
	r.log.Used = len(r.minutes)
	bars := make([]market.Bar, 0, len(r.minutes))
	for _, start := range slices.Sorted(maps.Keys(r.minutes)) {
		m := r.minutes[start]
		half := m.mid * m.spread / 2e4
		bars = append(bars, market.Bar{
			Start: start, Open: m.mid, High: m.mid, Low: m.mid, Close: m.mid, Bid: m.mid - half, Ask: m.mid + half,
		})
	}
	return bars
}
