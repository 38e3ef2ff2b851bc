package marketfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/parquet-go/parquet-go"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// walk returns n minutes of a random walk with prices of five decimals. Every eighth minute has no trade.
func walk(n int, seed uint64) []market.Bar {
	rng := rand.New(rand.NewPCG(seed, 1))
	start := time.Date(2021, 3, 4, 5, 0, 0, 0, time.UTC)
	round := func(x float64) float64 { return math.Round(x*1e5) / 1e5 }
	price := 101.5
	bars := make([]market.Bar, n)
	for i := range bars {
		b := market.Bar{Start: start.Add(time.Duration(i) * time.Minute).UnixMilli(), Open: price, Volume: float64(rng.IntN(900))}
		b.Close = round(price + rng.NormFloat64()*0.05)
		b.High = round(max(b.Open, b.Close) + rng.ExpFloat64()*0.02)
		b.Low = round(min(b.Open, b.Close) - rng.ExpFloat64()*0.02)
		if i%8 == 7 {
			b = market.Bar{Start: b.Start, Open: price, High: price, Low: price, Close: price}
		}
		price = b.Close
		bars[i] = b
	}
	return bars
}

// export is how a source writes bars: the header, empty for none, and the cells of a row.
type export struct {
	name, header, separator string
	row                     func(b market.Bar) []string
	newestFirst             bool
	opts                    Options
}

func (e export) text(bars []market.Bar) string {
	var b strings.Builder
	if e.header != "" {
		b.WriteString(e.header + "\n")
	}
	rows := slices.Clone(bars)
	if e.newestFirst {
		slices.Reverse(rows)
	}
	for _, bar := range rows {
		b.WriteString(strings.Join(e.row(bar), e.separator) + "\n")
	}
	return b.String()
}

func num(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// at formats the start of a bar.
func at(b market.Bar, layout string) string { return time.UnixMilli(b.Start).UTC().Format(layout) }

// cells joins texts and numbers.
func cells(all ...any) []string {
	var out []string
	for _, c := range all {
		switch c := c.(type) {
		case float64:
			out = append(out, num(c))
		case int64:
			out = append(out, strconv.FormatInt(c, 10))
		case string:
			out = append(out, c)
		}
	}
	return out
}

// exports are the documented layouts of exchanges, brokers and tools.
var exports = []export{
	{name: "binance header", separator: ",", header: "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore", row: binanceRow},
	{name: "binance", separator: ",", row: binanceRow},
	{name: "binance in microseconds", separator: ",", row: func(b market.Bar) []string {
		r := binanceRow(b)
		r[0], r[6] = r[0]+"000", r[6]+"999"
		return r
	}},
	{name: "kraken", separator: ",", row: func(b market.Bar) []string {
		return cells(b.Start/1000, b.Open, b.High, b.Low, b.Close, b.Volume, fmt.Sprint(int(b.Volume/7)))
	}},
	{name: "kraken with vwap", separator: ",", row: func(b market.Bar) []string {
		return cells(b.Start/1000, b.Open, b.High, b.Low, b.Close, num((b.High+b.Low+b.Close)/3), b.Volume, fmt.Sprint(int(b.Volume/7)))
	}},
	{name: "coinbase", separator: ",", newestFirst: true, row: func(b market.Bar) []string {
		return cells(b.Start/1000, b.Low, b.High, b.Open, b.Close, b.Volume)
	}},
	{name: "coinbase header", separator: ",", header: "time,low,high,open,close,volume", row: func(b market.Bar) []string {
		return cells(b.Start/1000, b.Low, b.High, b.Open, b.Close, b.Volume)
	}},
	{name: "bitstamp", separator: ",", header: "timestamp,open,high,low,close,volume", newestFirst: true, row: func(b market.Bar) []string {
		return cells(b.Start/1000, b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "cryptodatadownload", separator: ",", newestFirst: true, header: "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD", row: func(b market.Bar) []string {
		return cells(b.Start/1000, at(b, "2006-01-02 15:04:05"), "BTC/USD", b.Open, b.High, b.Low, b.Close, b.Volume, num(b.Volume*100))
	}},
	{name: "bybit", separator: ",", newestFirst: true, header: "startTime,openPrice,highPrice,lowPrice,closePrice,volume,turnover", row: func(b market.Bar) []string {
		return cells(b.Start, b.Open, b.High, b.Low, b.Close, b.Volume, num(b.Volume*100))
	}},
	{name: "bybit headless", separator: ",", newestFirst: true, row: func(b market.Bar) []string {
		return cells(b.Start, b.Open, b.High, b.Low, b.Close, b.Volume, num(b.Volume*100))
	}},
	{name: "bybit for metatrader", separator: ",", row: func(b market.Bar) []string {
		return cells(at(b, "2006.01.02 15:04"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "okx", separator: ",", header: "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm", row: func(b market.Bar) []string {
		return cells("BTC-USDT", b.Open, b.High, b.Low, b.Close, b.Volume, num(b.Volume/100), num(b.Volume*100), b.Start, "1")
	}},
	{name: "okx headless", separator: ",", newestFirst: true, row: func(b market.Bar) []string {
		return cells(b.Start, b.Open, b.High, b.Low, b.Close, b.Volume, num(b.Volume/100), num(b.Volume*100), "1")
	}},
	{name: "bitfinex", separator: ",", newestFirst: true, row: func(b market.Bar) []string {
		return cells(b.Start, b.Open, b.Close, b.High, b.Low, b.Volume)
	}},
	{name: "bitfinex header", separator: ",", header: "MTS,OPEN,CLOSE,HIGH,LOW,VOLUME", row: func(b market.Bar) []string {
		return cells(b.Start, b.Open, b.Close, b.High, b.Low, b.Volume)
	}},
	{name: "oanda mid", separator: ",", header: "time,complete,volume,mid.o,mid.h,mid.l,mid.c", row: func(b market.Bar) []string {
		return cells(at(b, "2006-01-02T15:04:05.000000000Z"), "True", b.Volume, b.Open, b.High, b.Low, b.Close)
	}},
	{name: "histdata", separator: ";", row: func(b market.Bar) []string {
		return cells(at(b, "20060102 150405"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "metatrader 4", separator: ",", row: func(b market.Bar) []string {
		return cells(at(b, "2006.01.02"), at(b, "15:04"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "metatrader 5", separator: "\t", header: "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>", row: func(b market.Bar) []string {
		return cells(at(b, "2006.01.02"), at(b, "15:04:05"), b.Open, b.High, b.Low, b.Close, b.Volume, "0", "2")
	}},
	{name: "finam", separator: ";", header: "<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>", row: func(b market.Bar) []string {
		return cells("GAZP", "1", at(b, "20060102"), at(b, "150405"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "dukascopy", separator: ",", header: "Gmt time,Open,High,Low,Close,Volume", row: func(b market.Bar) []string {
		return cells(at(b, "02.01.2006 15:04:05.000"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "dukascopy local", separator: ",", header: "Local time,Open,High,Low,Close,Volume", row: func(b market.Bar) []string {
		return cells(time.UnixMilli(b.Start).UTC().Add(time.Hour).Format("02.01.2006 15:04:05.000")+" GMT+0100", b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "pandas", separator: ",", header: ",open,high,low,close,volume", row: func(b market.Bar) []string {
		return cells(at(b, "2006-01-02 15:04:05+00:00"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "polygon", separator: ",", header: "ticker,volume,open,close,high,low,window_start,transactions", row: func(b market.Bar) []string {
		return cells("X:BTCUSD", b.Volume, b.Open, b.Close, b.High, b.Low, strconv.FormatInt(b.Start*1e6, 10), "7")
	}},
	{name: "spreadsheet, american", separator: ",", header: "Date,Open,High,Low,Close,Volume", row: func(b market.Bar) []string {
		return cells(at(b, "1/2/2006 3:04 PM"), b.Open, b.High, b.Low, b.Close, b.Volume)
	}},
	{name: "spreadsheet, european", separator: ";", header: "Datum;Zeit;Erster;Hoch;Tief;Schluss;Umsatz", row: func(b market.Bar) []string {
		row := cells(at(b, "02-Jan-2006"), at(b, "15:04"), b.Open, b.High, b.Low, b.Close, b.Volume)
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], ".", ",")
		}
		return row
	}},
	{name: "quoted, compact times", separator: ",", header: `"when","o","h","l","c","v"`, row: func(b market.Bar) []string {
		row := cells(at(b, "20060102150405"), b.Open, b.High, b.Low, b.Close, b.Volume)
		for i := range row {
			row[i] = strconv.Quote(row[i])
		}
		return row
	}},
	{name: "unknown names", separator: ",", header: "id,px1,px2,px3,px4,lots,when", row: func(b market.Bar) []string {
		return cells("x"+fmt.Sprint(b.Start%977), b.Close, b.Low, b.High, b.Open, b.Volume, at(b, time.RFC3339))
	}, opts: Options{Columns: map[string]string{"volume": "lots"}}},
	{name: "columns by number", separator: "|", row: func(b market.Bar) []string {
		return cells("7", b.Volume, b.Low, b.Open, b.High, b.Close, b.Start)
	}, opts: Options{Columns: map[string]string{"volume": "2", "close": "6", "open": "4"}}},
}

func binanceRow(b market.Bar) []string {
	return cells(b.Start, b.Open, b.High, b.Low, b.Close, b.Volume, b.Start+59_999, num(b.Volume*100), "12", num(b.Volume/2), num(b.Volume*50), "0")
}

// Every known export reads back the bars that were written.
func TestReadExports(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		want := walk(300, seed)
		for _, e := range exports {
			t.Run(e.name, func(t *testing.T) {
				t.Chdir(t.TempDir())
				s, err := Read(store(t, "x.csv", e.text(want)), e.opts)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, s.Bars, want)
				if e.header == "" && len(s.Taken) == 0 {
					t.Error("nothing is said about a table without a header")
				}
			})
		}
	}
}

func compare(t *testing.T, got, want []market.Bar) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d bars, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("bar %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

// Exports of both sides give the mid and the closing quote.
func TestReadExportsOfSides(t *testing.T) {
	bid := walk(100, 4)
	const spread = 0.25 // exact in binary, so that sums of rounded numbers are, too
	want := make([]market.Bar, len(bid))
	ask := make([]market.Bar, len(bid))
	for i, b := range bid {
		ask[i] = market.Bar{Open: b.Open + spread, High: b.High + spread, Low: b.Low + spread, Close: b.Close + spread}
		want[i] = market.Bar{
			Start: b.Start, Open: mid(b.Open, ask[i].Open), High: mid(b.High, ask[i].High), Low: mid(b.Low, ask[i].Low),
			Close: mid(b.Close, ask[i].Close), Bid: b.Close, Ask: ask[i].Close,
		}
	}
	for name, e := range map[string]struct {
		header string
		row    func(b, a market.Bar) []string
	}{
		"fxcm": {"DateTime,BidOpen,BidHigh,BidLow,BidClose,AskOpen,AskHigh,AskLow,AskClose\n", func(b, a market.Bar) []string {
			return cells(at(b, "01/02/2006 15:04:05.000"), b.Open, b.High, b.Low, b.Close, a.Open, a.High, a.Low, a.Close)
		}},
		"marketscope": {"HDR;EUR/USD;04.03.2021 05:00:00;04.03.2021 06:40:00;m1;0;0.0001\n", func(b, a market.Bar) []string {
			return cells("DAT", at(b, "02.01.2006 15:04:05"), b.Open, b.High, b.Low, b.Close, a.Open, a.High, a.Low, a.Close)
		}},
		"oanda": {"time,ask.o,ask.h,ask.l,ask.c,bid.o,bid.h,bid.l,bid.c\n", func(b, a market.Bar) []string {
			return cells(at(b, time.RFC3339), a.Open, a.High, a.Low, a.Close, b.Open, b.High, b.Low, b.Close)
		}},
		"headless, ask first": {"", func(b, a market.Bar) []string {
			return cells(b.Start, a.Open, a.High, a.Low, a.Close, "0", b.Open, b.High, b.Low, b.Close, "0")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			separator := ","
			if name == "marketscope" {
				separator = ";"
			}
			text := e.header
			for i := range bid {
				text += strings.Join(e.row(bid[i], ask[i]), separator) + "\n"
			}
			s, err := Read(store(t, "x.csv", text), Options{})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, s.Bars, want)
		})
	}
}

// Exports of quotes.
func TestReadExportsOfQuotes(t *testing.T) {
	for name, text := range map[string]string{
		"binance bookTicker": "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n" +
			"1,10,1,11,2,1704153600500,1704153600501\n2,10.5,3,11,4,1704153600900,1704153600902\n",
		"tardis": "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n" +
			"x,BTC,1704153600500000,1704153600500900,2,11,10,1\nx,BTC,1704153600900000,1704153600900900,4,11,10.5,3\n",
		"histdata ticks":    "20240102 000000500;10;11;1;2\n20240102 000000900;10.5;11;3;4\n",
		"dukascopy ticks":   "Gmt time,Ask,Bid,AskVolume,BidVolume\n02.01.2024 00:00:00.500,11,10,2,1\n02.01.2024 00:00:00.900,11,10.5,4,3\n",
		"truefx":            "EUR/USD,20240102 00:00:00.500,10,11,1,2\nEUR/USD,20240102 00:00:00.900,10.5,11,3,4\n",
		"newest row first":  "ts,bid,ask,bid_size,ask_size\n1704153600.9,10.5,11,3,4\n1704153600.5,10,11,1,2\n",
		"databento, nested": "ts_event,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00\n1704153600500000000,10,11,1,2\n1704153600900000000,10.5,11,3,4\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			got, _, err := readQuotes(store(t, "x.csv", text), Options{})
			if err != nil {
				t.Fatal(err)
			}
			want := []market.Quote{
				{Time: 1704153600500, Bid: 10, Ask: 11, BidSize: 1, AskSize: 2},
				{Time: 1704153600900, Bid: 10.5, Ask: 11, BidSize: 3, AskSize: 4},
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func utf16Of(text string, littleEndian, mark bool) string {
	var b bytes.Buffer
	units := utf16.Encode([]rune(text))
	if mark {
		units = append([]uint16{0xfeff}, units...)
	}
	for _, u := range units {
		if littleEndian {
			b.Write([]byte{byte(u), byte(u >> 8)})
		} else {
			b.Write([]byte{byte(u >> 8), byte(u)})
		}
	}
	return b.String()
}

// How a text is stored changes nothing.
func TestReadStored(t *testing.T) {
	want := walk(200, 5)
	for _, e := range exports {
		text := e.text(want)
		half := e.text(want[:100])
		rest := e.text(want[100:])
		for name, content := range map[string]string{
			"CRLF":                    strings.ReplaceAll(text, "\n", "\r\n"),
			"byte order mark":         "\xef\xbb\xbf" + text,
			"UTF-16LE":                utf16Of(text, true, true),
			"UTF-16BE":                utf16Of(text, false, true),
			"UTF-16 without mark":     utf16Of(text, true, false),
			"gzip":                    gzipped(t, text),
			"gzip of UTF-16":          gzipped(t, utf16Of(text, true, true)),
			"zip":                     zipped(t, "a/x.csv", text),
			"zip of many":             zipped(t, "x-2021-02.csv", rest, "x-2021-01.csv", half, "README.txt", "Nothing to see.\n", "licence.pdf", "%PDF"),
			"zip of UTF-16":           zipped(t, "x.csv", utf16Of(text, false, true)),
			"comments and blank rows": "# exported\n\n" + strings.ReplaceAll(text, "\n", "\n\n"),
		} {
			t.Run(e.name+", "+name, func(t *testing.T) {
				t.Chdir(t.TempDir())
				s, err := Read(store(t, "x.bin", content), e.opts)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, s.Bars, want)
				if len(s.Files) != 1 {
					t.Errorf("got %d files, want 1", len(s.Files))
				}
			})
		}
	}
}

// The order of columns with a header changes nothing.
func TestReadPermutedColumns(t *testing.T) {
	want := walk(60, 6)
	rng := rand.New(rand.NewPCG(7, 7))
	tried := 0
	for _, e := range exports {
		if e.header == "" || strings.Contains(e.header, "\n") {
			continue
		}
		for range 5 {
			tried++
			names := strings.Split(e.header, e.separator)
			order := rng.Perm(len(names))
			permuted := e
			pick := func(all []string) []string {
				out := make([]string, len(all))
				for i, k := range order {
					out[i] = all[k]
				}
				return out
			}
			permuted.header = strings.Join(pick(names), e.separator)
			permuted.row = func(b market.Bar) []string { return pick(e.row(b)) }
			if strings.HasPrefix(e.name, "spreadsheet, european") {
				permuted.opts.Columns = map[string]string{"volume": "Umsatz"} // which number is the volume only its place tells
			}
			t.Chdir(t.TempDir())
			s, err := Read(store(t, filepath.Join("set", "x.csv"), permuted.text(want)), permuted.opts)
			if err != nil {
				t.Fatalf("%s as %s: %v", e.name, permuted.header, err)
			}
			compare(t, s.Bars, want)
		}
	}
	if tried < 50 {
		t.Fatalf("only %d orders", tried)
	}
}

func TestReadColumns(t *testing.T) {
	const text = "when,first trade,top,bottom,last trade,x\n2024-01-02 00:00:00,10,12,9,11,5\n"
	for _, tt := range []struct {
		name, text string
		columns    map[string]string
		want       market.Bar
		err        string
	}{
		{"all", text, map[string]string{"time": "when", "open": "First Trade", "high": "top", "low": "bottom", "close": "lasttrade", "volume": "6"}, market.Bar{Start: 1704153600000, Open: 10, High: 12, Low: 9, Close: 11, Volume: 5}, ""},
		{"overrules a name", "time,open,high,low,close,bar_close\n1704153600,10,12,9,11,10.5\n", map[string]string{"close": "bar_close"}, market.Bar{Start: 1704153600000, Open: 10, High: 12, Low: 9, Close: 10.5}, ""},
		{"one column twice", "time,price\n1704153600,10\n", map[string]string{"open": "price", "high": "price", "low": "price", "close": "price"}, market.Bar{Start: 1704153600000, Open: 10, High: 10, Low: 10, Close: 10}, ""},
		{"no such column", text, map[string]string{"time": "when", "close": "lsat"}, market.Bar{}, `x.csv: no column "lsat", which --columns names for close; the header has: when, first trade, top, bottom, last trade, x`},
		{"no such number", "1704153600,10,12,9,11\n", map[string]string{"close": "6"}, market.Bar{}, `x.csv: no column "6", which --columns names for close; there is no header, the columns are 1 to 5`},
		{"unknown key", text, map[string]string{"clsoe": "x"}, market.Bar{}, `columns: unknown key "clsoe": want one of time, date, open`},
		{"no value", text, map[string]string{"close": ""}, market.Bar{}, "columns: close: want the name or the number of a column"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			s, err := Read(store(t, "x.csv", tt.text), Options{Columns: tt.columns})
			switch {
			case tt.err != "":
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case len(s.Bars) != 1 || s.Bars[0] != tt.want:
				t.Errorf("got %+v, want %+v", s.Bars, tt.want)
			}
		})
	}
}

// Any unambiguous row decides the order of day and month for the file; without one, the guess is reported.
func TestReadDateOrder(t *testing.T) {
	bars := walk(60*24*12, 8) // from 4 to 15 March
	for _, layout := range []string{"1/2/2006 15:04", "2/1/2006 15:04", "02.01.06 15:04:05", "02-Jan-06 15:04"} {
		for _, n := range []int{len(bars), 20} {
			e := export{separator: ",", header: "date,open,high,low,close,volume", row: func(b market.Bar) []string {
				return cells(at(b, layout), b.Open, b.High, b.Low, b.Close, b.Volume)
			}}
			t.Chdir(t.TempDir())
			s, err := Read(store(t, "x.csv", e.text(bars[:n])), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if n == len(bars) {
				compare(t, s.Bars, bars)
			}
			taken := n == 20 && !strings.Contains(layout, "Jan")
			if taken != (len(s.Taken) == 1 && strings.Contains(s.Taken[0], "which no row decides")) {
				t.Errorf("%s, %d rows: said %q", layout, n, s.Taken)
			}
		}
	}
}

// A file whose newest row comes first names the row that breaks the order, and must not overlap with others.
func TestReadNewestFirstErrors(t *testing.T) {
	bars := walk(20, 9)
	e := export{separator: ",", header: "ts,open,high,low,close", newestFirst: true, row: func(b market.Bar) []string {
		return cells(b.Start, b.Open, b.High, b.Low, b.Close)
	}}
	t.Chdir(t.TempDir())
	late := strings.Join(e.row(bars[19]), ",") + "\n"
	_, err := Read(store(t, "x.csv", e.text(bars[:19])+late), Options{})
	if want := `x.csv:21: column "ts": "1614835140000" goes forward in time, in a file whose newest row comes first`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	store(t, "set/x-1.csv", e.text(bars[:10]))
	store(t, "set/x-2.csv", e.text(bars[9:]))
	_, err = Read("set", Options{})
	if want := "set/x-2.csv: overlaps in time with the files before it, at 2021-03-04T05:09:00Z"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Parquet files of any unit of time give the same bars, in any row group order of columns.
func TestReadParquet(t *testing.T) {
	type nanos struct {
		Close  float64   `parquet:"close"`
		Open   float64   `parquet:"open"`
		High   float64   `parquet:"high"`
		Low    float64   `parquet:"low"`
		Volume *float64  `parquet:"volume,optional"`
		Time   time.Time `parquet:"__index_level_0__,timestamp(nanosecond)"`
	}
	type millis struct {
		Time   int64   `parquet:"when,timestamp"`
		Open   float64 `parquet:"open"`
		High   float64 `parquet:"high"`
		Low    float64 `parquet:"low"`
		Close  float64 `parquet:"close"`
		Volume float64 `parquet:"Volume BTC"`
	}
	type text struct {
		Time   string  `parquet:"Date"`
		Open   float64 `parquet:"a1"`
		High   float64 `parquet:"a2"`
		Low    float64 `parquet:"a3"`
		Close  float64 `parquet:"a4"`
		Volume float64 `parquet:"a5"`
	}
	want := walk(1500, 10)
	var a []nanos
	var b []millis
	var c []text
	for _, bar := range want {
		at := time.UnixMilli(bar.Start).UTC()
		a = append(a, nanos{bar.Close, bar.Open, bar.High, bar.Low, &bar.Volume, at})
		b = append(b, millis{bar.Start, bar.Open, bar.High, bar.Low, bar.Close, bar.Volume})
		c = append(c, text{at.Format(time.RFC3339), bar.Open, bar.High, bar.Low, bar.Close, bar.Volume})
	}
	slices.Reverse(b)
	var files [3]bytes.Buffer
	for _, err := range []error{parquet.Write(&files[0], a), parquet.Write(&files[1], b, parquet.Compression(&parquet.Zstd)), parquet.Write(&files[2], c)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range files {
		t.Chdir(t.TempDir())
		store(t, "set/btc.parquet", files[i].String())
		s, err := Read("set", Options{})
		if err != nil {
			t.Fatal(err)
		}
		compare(t, s.Bars, want)
		if sum := sha256.Sum256(files[i].Bytes()); s.Files[0].SHA256 != hex.EncodeToString(sum[:]) || s.Symbol != "BTC" {
			t.Errorf("got %s, digest %s; want BTC, %x of the stored bytes", s.Symbol, s.Files[0].SHA256, sum)
		}
	}
}
