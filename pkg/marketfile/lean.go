package marketfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// fxcmClock is the offset of the clock in LEAN's FXCM zips from UTC: New York without daylight saving.
const fxcmClock = -5 * time.Hour

// leanName matches the name of the text inside a LEAN zip.
var leanName = regexp.MustCompile(`^(\d{8})_([a-z0-9]+)_(minute|tick)_(quote|trade)\.csv$`)

// The layouts of the LEAN kinds, which have no header. Their times are relative to the day in their name.
var (
	leanQuoteMinute = fixedLayout(
		[]string{
			"time", "bid open", "bid high", "bid low", "bid close", "bid size",
			"ask open", "ask high", "ask low", "ask close", "ask size",
		},
		roleTime, roleBidOpen, roleBidHigh, roleBidLow, roleBid, roleBidSize,
		roleAskOpen, roleAskHigh, roleAskLow, roleAsk, roleAskSize,
	)
	leanTradeMinute = fixedLayout(
		[]string{"time", "open", "high", "low", "close", "volume"},
		roleTime, roleOpen, roleHigh, roleLow, roleClose, roleVolume,
	)
	leanTick      = fixedLayout([]string{"time", "bid", "ask"}, roleTime, roleBid, roleAsk)
	leanTickSized = fixedLayout(
		[]string{"time", "bid", "bid size", "ask", "ask size"}, roleTime, roleBid, roleBidSize, roleAsk, roleAskSize,
	)
)

// recogniseLean parses the name of the text inside: day, symbol, minute or tick, quote or trade.
func (s *stored) recogniseLean(m []string, line string) error {
	day, err := time.Parse("20060102", m[1])
	if err != nil {
		return fmt.Errorf("the name %s does not begin with a day", s.name)
	}
	s.day, s.first, s.symbol = day, day.UnixMilli(), strings.ToUpper(m[2])
	s.kind, s.trades, s.layout = kindMinute, m[4] == "trade", leanQuoteMinute
	switch {
	case m[3] == "tick" && s.trades:
		return fmt.Errorf("single trades (%s) are not read; use the minutes or the quotes", s.name)
	case m[3] == "tick":
		s.kind, s.layout = kindTick, leanTick
		if strings.Count(line, ",") == len(leanTickSized.names)-1 {
			s.layout = leanTickSized
		}
	case s.trades:
		s.layout = leanTradeMinute
	}
	s.skip = 0
	folders := strings.Split(filepath.ToSlash(strings.ToLower(filepath.Dir(absolute(s.path)))), "/")
	s.fxcm = slices.Contains(folders, "fxcm")
	return nil
}

// absolute returns the absolute path, so that a folder's name is found even if the given path does not contain it.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// tradesOnly removes the quotes of a LEAN folder. Other sources have only one of the two.
func (s source) tradesOnly() (source, error) {
	if s.kind != kindMinute {
		return s, errors.New("trades only is for LEAN zips, which have both")
	}
	s.files = s.trades(true)
	if len(s.files) == 0 {
		return s, errors.New("has quotes and no trades")
	}
	return s, nil
}

// trades returns the files of trades if wanted is set, otherwise the files of quotes.
func (s source) trades(wanted bool) []stored {
	return slices.DeleteFunc(slices.Clone(s.files), func(f stored) bool { return f.trades != wanted })
}

// withTrades reads the minutes of trades and of quotes. If there are quotes, the trades give only the volume.
func (r *reading) withTrades() ([]market.Bar, error) {
	trades, err := r.barsOf(r.src.trades(true))
	quotes := r.src.trades(false)
	if err != nil || len(quotes) == 0 {
		return trades, err
	}
	r.last = 0
	bars, err := r.barsOf(quotes)
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
