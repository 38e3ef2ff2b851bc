package marketfile

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

func TestReadLean(t *testing.T) {
	t.Chdir(t.TempDir())
	store(t, "fxcm/eur/20140501_quote.zip", zipped(t, "20140501_eurusd_minute_quote.csv", "0,1,1,1,1,0,2,2,2,2,0\n60000,3,3,3,3,0,2,2,2,2,0"))
	store(t, "oanda/eur/20140501_quote.zip", zipped(t, "20140501_eurusd_minute_quote.csv", "0,1,1,1,1,0,2,2,2,2,0\n"))
	store(t, "crypto/20180404_quote.zip", zipped(t, "20180404_btcusd_minute_quote.csv", "0,1,1,1,1,7,2,2,2,2,8\n60000,1,1,1,1,7,2,2,2,2,8\n"))
	store(t, "crypto/20180404_trade.zip", zipped(t, "20180404_btcusd_minute_trade.csv", "60000,1,1,1,1,5.5\n120000,1,1,1,1,6\n"))
	hour := new(time.Hour)
	tests := []struct {
		name, path string
		opts       Options
		first      string
		bars       int
		volume     float64
		crossed    int
		dropped    map[string]int
	}{
		{"fxcm is five hours behind", "fxcm/eur", Options{}, "2014-05-01T05:00:00Z", 2, 0, 1, nil},
		{"a single file", "fxcm/eur/20140501_quote.zip", Options{}, "2014-05-01T05:00:00Z", 2, 0, 1, nil},
		{"a clock by option", "fxcm/eur", Options{UTCOffset: hour}, "2014-04-30T23:00:00Z", 2, 0, 1, nil},
		{"oanda is UTC", "oanda/eur", Options{}, "2014-05-01T00:00:00Z", 1, 0, 0, nil},
		{"quotes with the volume of trades", "crypto", Options{}, "2018-04-04T00:00:00Z", 2, 5.5, 0, map[string]int{ReasonNoQuote: 1}},
		{"trades only", "crypto", Options{TradesOnly: true}, "2018-04-04T00:01:00Z", 2, 11.5, 0, nil},
		{"trades alone", "crypto/20180404_trade.zip", Options{}, "2018-04-04T00:01:00Z", 2, 11.5, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Read(tt.path, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			volume := 0.0
			for _, b := range s.Bars {
				volume += b.Volume
			}
			if got := utc(s.Bars[0].Start); got != tt.first || len(s.Bars) != tt.bars || volume != tt.volume || s.Crossed != tt.crossed || !maps.Equal(s.Dropped, tt.dropped) {
				t.Errorf("got %d bars from %s, volume %v, %d crossed, dropped %v; want %d from %s, %v, %d, %v",
					len(s.Bars), got, volume, s.Crossed, s.Dropped, tt.bars, tt.first, tt.volume, tt.crossed, tt.dropped)
			}
		})
	}
}

func TestReadLeanBadRows(t *testing.T) {
	const minute, tick, trade = "20180404_btcusd_minute_quote.csv", "20180404_btcusd_tick_quote.csv", "20180404_btcusd_minute_trade.csv"
	tests := []struct {
		name, inside, text string
		opts               Options
		want               string
	}{
		{"columns", minute, "0,1,1,1,1,0\n", Options{}, "a.zip:1: has 6 columns, want 11 (time, bid open"},
		{"number", minute, "0,1,1,1,1,0,2,2,2,x,0\n", Options{}, `a.zip:1: column "ask close": "x" is not a number`},
		{"range", minute, "0,1,1,2,1,0,2,2,2,2,0\n", Options{}, `a.zip:1: column "bid high": "1" is below the low 2`},
		{"crossed", minute, "0,3,3,3,3,0,2,2,2,2,0\n", Options{}, `a.zip:1: column "bid close": "3" is above the ask 2`},
		{"minute", minute, "1000,1,1,1,1,0,2,2,2,2,0\n", Options{}, `a.zip:1: column "time": "1000" is not on a minute`},
		{"time of day", minute, "86400000,1,1,1,1,0,2,2,2,2,0\n", Options{}, `a.zip:1: column "time": "86400000" is not a time of day`},
		{"repeated", minute, "0,1,1,1,1,0,2,2,2,2,0\n0,1,1,1,1,0,2,2,2,2,1\n", Options{}, `a.zip:2: column "time": "0" repeats the minute of the previous row`},
		{"trade columns", trade, "0,1,1,1,1\n", Options{}, "a.zip:1: has 5 columns, want 6 (time, open, high, low, close, volume)"},
		{"trade volume", trade, "0,1,1,1,1,-2\n", Options{}, `a.zip:1: column "volume": "-2" is negative`},
		{"tick columns", tick, "0,1\n", Options{}, "a.zip:1: has 2 columns, want 3 (time, bid, ask)"},
		{"tick crossed", tick, "0,2,1\n", Options{}, `a.zip:1: column "bid": "2" is above the ask 1`},
		{"tick backwards", tick, "5,1,2\n4,1,2\n", Options{}, "a.zip:2: goes back in time: it is at 2018-04-04T00:00:00.004Z, the previous row at 2018-04-04T00:00:00.005Z"},
		{"tick of trades", "20180404_btcusd_tick_trade.csv", "0,1,2\n", Options{}, "a.zip: single trades (20180404_btcusd_tick_trade.csv) are not read"},
		{"day", "20180444_btcusd_minute_quote.csv", "0,1,2\n", Options{}, "a.zip: the name 20180444_btcusd_minute_quote.csv does not begin with a day"},
		{"no trades", minute, "0,1,1,1,1,0,2,2,2,2,0\n", Options{TradesOnly: true}, "a.zip: has quotes and no trades"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			_, err := Read(store(t, "a.zip", zipped(t, tt.inside, tt.text)), tt.opts)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestReadQuotesLean(t *testing.T) {
	t.Chdir(t.TempDir())
	file := store(t, "a.zip", zipped(t, "20180404_btcusd_tick_quote.csv", "5,1,10,2,20\n5,1,10,2,20\n60001,1,10,3,0\n"))
	quotes, r, err := readQuotes(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(quotes) != 3 || len(r.files) != 1 {
		t.Fatalf("got %d quotes of %d files, want 3 of 1: ticks may repeat", len(quotes), len(r.files))
	}
	if want := (market.Quote{Time: 1522800000005, Bid: 1, Ask: 2, BidSize: 10, AskSize: 20}); quotes[0] != want {
		t.Errorf("got %+v, want %+v", quotes[0], want)
	}
}
