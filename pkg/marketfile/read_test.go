package marketfile

import (
	"encoding/csv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// dataDir returns the folder of the real data sets; tests that need them skip if it is not set.
func dataDir(t testing.TB) string {
	t.Helper()
	return need.Data(t)
}

// mid uses floating point, unlike Go's constant arithmetic.
func mid(bid, ask float64) float64 { return (bid + ask) / 2 }

// manifest is MANIFEST.csv of the data sets: lines and digest by path.
type manifest map[string]struct {
	lines  int
	sha256 string
}

func readManifest(t *testing.T, dir string) manifest {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "MANIFEST.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	m := manifest{}
	for _, row := range rows[1:] {
		lines, err := strconv.Atoi(row[2])
		if err != nil {
			t.Fatal(err)
		}
		e := m[row[0]]
		e.lines, e.sha256 = lines, row[3]
		m[row[0]] = e
	}
	return m
}

// lines returns the total lines of the files with that prefix and suffix.
func (m manifest) lines(folder, suffix string) int {
	n := 0
	for path, e := range m {
		if strings.HasPrefix(path, folder+"/") && strings.HasSuffix(path, suffix) {
			n += e.lines
		}
	}
	return n
}

func (m manifest) check(t *testing.T, dir string, files []market.File) {
	t.Helper()
	for _, f := range files {
		rel, err := filepath.Rel(dir, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		if want := m[filepath.ToSlash(rel)].sha256; f.SHA256 != want {
			t.Errorf("%s: digest: got %s, manifest has %s", rel, f.SHA256, want)
		}
	}
}

func TestReadSets(t *testing.T) {
	dir := dataDir(t)
	m := readManifest(t, dir)
	tests := []struct {
		path        string
		opts        Options
		symbol      string
		rows, files int
		crossed     int
		dropped     map[string]int
		first, last market.Bar
		end         string // last minute
	}{
		{
			path: "btcperp-ftx-1m", symbol: "BTC-PERP", rows: 45_031, files: 1,
			first: market.Bar{Start: 1640991660000, Open: 46319, High: 46385, Low: 46319, Close: 46377, Volume: 2300413.7295},
			last:  market.Bar{Start: 1643693460000, Open: 38525, High: 38546, Low: 38525, Close: 38544, Volume: 685906.9735},
			end:   "2022-02-01T05:31:00Z",
		},
		{
			path: "filusdt-binance-1m", symbol: "FILUSDT", rows: 131_040, files: 3,
			first: market.Bar{Start: 1725148800000, Open: 3.566, High: 3.567, Low: 3.563, Close: 3.565, Volume: 10673.8},
			last:  market.Bar{Start: 1733011140000, Open: 7.091, High: 7.091, Low: 7.075, Close: 7.081, Volume: 56116.4},
			end:   "2024-11-30T23:59:00Z",
		},
		{
			path: "btcusd-bitfinex-1m", symbol: "BTCUSD", rows: 172_213, files: 4,
			first: market.Bar{Start: 1535760000000, Open: 7013.5, High: 7015.8, Low: 7011.3, Close: 7015.8, Volume: 5.24030269},
			last:  market.Bar{Start: 1546300740000, Open: 3830.4, High: 3830.5, Low: 3830.3483292, Close: 3830.5, Volume: 0.15120012},
			end:   "2018-12-31T23:59:00Z",
		},
		{
			path: "gbpusd-fxcm-1m-bidask", symbol: "GBPUSD", rows: 30_117, files: 2, crossed: 347,
			first: market.Bar{Start: 1328054400000, Open: mid(1.57597, 1.57608), High: mid(1.57606, 1.57610), Low: mid(1.57576, 1.57585), Close: mid(1.57576, 1.57585), Bid: 1.57576, Ask: 1.57585},
			last:  market.Bar{Start: 1330560000000, Open: mid(1.59206, 1.59217), High: mid(1.59211, 1.59220), Low: mid(1.59194, 1.59201), Close: mid(1.59208, 1.59216), Bid: 1.59208, Ask: 1.59216},
			end:   "2012-03-01T00:00:00Z",
		},
		{
			path: "eurusd-quotes-2014-05/fxcm/minute", symbol: "EURUSD", rows: m.lines("eurusd-quotes-2014-05/fxcm/minute", ".zip"), files: 13, crossed: 374,
			first: market.Bar{Start: 1398920400000, Open: 1.38728, High: 1.387295, Low: mid(1.38723, 1.38727), Close: mid(1.38724, 1.38727), Bid: 1.38724, Ask: 1.38727},
			end:   "2014-05-16T04:59:00Z",
		},
		{
			path: "eurusd-quotes-2014-05", opts: Options{Symbol: "OANDA/minute"}, symbol: "EURUSD", rows: m.lines("eurusd-quotes-2014-05/oanda/minute", ".zip"), files: 13,
			end: "2014-05-15T23:59:00Z",
		},
		{
			path: "eurusd-quotes-2014-05/fxcm/tick", symbol: "EURUSD", rows: 3818, files: 3, crossed: 85,
			end: "2014-05-09T20:59:00Z",
		},
		{
			path: "coinbase-l1-minute", opts: Options{Symbol: "BTCUSD"}, symbol: "BTCUSD", rows: m.lines("coinbase-l1-minute/btcusd", "_quote.zip"), files: 14,
			dropped: map[string]int{ReasonNoQuote: 5667}, end: "2018-04-05T23:58:00Z",
		},
		{
			path: "coinbase-l1-minute/btcusd", opts: Options{TradesOnly: true}, symbol: "BTCUSD", rows: m.lines("coinbase-l1-minute/btcusd", "_trade.zip"), files: 9,
			first: market.Bar{Start: 1475798400000, Open: 611.78, High: 611.91, Low: 611.78, Close: 611.9, Volume: 1.13872},
			end:   "2018-04-06T23:59:00Z",
		},
		{
			path: "coinbase-l1-minute/ltcusd", symbol: "LTCUSD", rows: m.lines("coinbase-l1-minute/ltcusd", "_quote.zip"), files: 6,
			dropped: map[string]int{ReasonNoQuote: 2}, end: "2018-04-06T23:58:00Z",
		},
		{
			path: "coinbase-l1-minute/ethusd", symbol: "ETHUSD", rows: m.lines("coinbase-l1-minute/ethusd", "_quote.zip"), files: 8,
			dropped: map[string]int{ReasonNoQuote: 8}, end: "2018-04-05T23:58:00Z",
		},
		{
			path: "coinbase-l1-minute/btceur", symbol: "BTCEUR", rows: m.lines("coinbase-l1-minute/btceur", "_quote.zip"), files: 6,
			dropped: map[string]int{ReasonNoQuote: 6}, end: "2018-04-06T23:58:00Z",
		},
		{
			path: "binance-bookticker-2024-08", opts: Options{Symbol: "btcusd_perp"}, symbol: "BTCUSD_PERP", rows: 12, files: 2,
			last: market.Bar{Start: 1723161900000, Open: 61600.05, High: 61600.05, Low: 61600.05, Close: 61600.05, Bid: 61600, Ask: 61600.1, Volume: 186},
			end:  "2024-08-09T00:05:00Z",
		},
		{path: "binance-bookticker-2024-08", opts: Options{Symbol: "BTCUSDT"}, symbol: "BTCUSDT", rows: 6, files: 1, end: "2024-08-08T23:59:00Z"},
		{path: "binance-bookticker-2024-08", opts: Options{Symbol: "ETHUSD_PERP"}, symbol: "ETHUSD_PERP", rows: 12, files: 2, end: "2024-08-09T00:05:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.path+" "+tt.opts.Symbol, func(t *testing.T) {
			var done, total int64
			tt.opts.Progress = func(d, n int64) {
				if d < done || d > n {
					t.Errorf("progress went from %d to %d of %d", done, d, n)
				}
				done, total = d, n
			}
			begin := time.Now()
			s, err := Read(filepath.Join(dir, tt.path), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bars in %v", len(s.Bars), time.Since(begin).Round(time.Millisecond))
			if s.Symbol != tt.symbol || len(s.Bars) != tt.rows || len(s.Files) != tt.files || s.Crossed != tt.crossed || s.Simulated {
				t.Errorf("got %s, %d bars of %d files, %d crossed, simulated %v; want %s, %d of %d, %d",
					s.Symbol, len(s.Bars), len(s.Files), s.Crossed, s.Simulated, tt.symbol, tt.rows, tt.files, tt.crossed)
			}
			if !maps.Equal(s.Dropped, tt.dropped) {
				t.Errorf("dropped: got %v, want %v", s.Dropped, tt.dropped)
			}
			first, last := s.Bars[0], s.Bars[len(s.Bars)-1]
			if tt.first != (market.Bar{}) && first != tt.first {
				t.Errorf("first: got %+v, want %+v", first, tt.first)
			}
			if tt.last != (market.Bar{}) && last != tt.last {
				t.Errorf("last: got %+v, want %+v", last, tt.last)
			}
			if got := utc(last.Start); got != tt.end {
				t.Errorf("last minute: got %s, want %s", got, tt.end)
			}
			if done != total || total == 0 {
				t.Errorf("progress ended at %d of %d", done, total)
			}
			checkBars(t, s.Bars)
			m.check(t, dir, s.Files)
		})
	}
}

func TestReadQuotesSets(t *testing.T) {
	dir := dataDir(t)
	m := readManifest(t, dir)
	tests := []struct {
		path, symbol string
		want         string
		quotes       int
		crossed      int
		first, last  market.Quote
	}{
		{
			path: "eurusd-quotes-2014-05/fxcm/tick", want: "EURUSD", quotes: m.lines("eurusd-quotes-2014-05/fxcm/tick", ".zip"), crossed: 38142,
			first: market.Quote{Time: 1399438801014, Bid: 1.39248, Ask: 1.39250},
		},
		{path: "eurusd-quotes-2014-05/oanda/tick", want: "EURUSD", quotes: m.lines("eurusd-quotes-2014-05/oanda/tick", ".zip"), first: market.Quote{Time: 1399420807135, Bid: 1.39286, Ask: 1.39298}},
		{
			path: "binance-bookticker-2024-08", symbol: "BTCUSD_PERP", want: "BTCUSD_PERP", quotes: 19_136 + 29_219,
			first: market.Quote{Time: 1723161256207, Bid: 61804.7, Ask: 61804.8, BidSize: 35, AskSize: 1645},
			last:  market.Quote{Time: 1723161903513, Bid: 61600.0, Ask: 61600.1, BidSize: 27, AskSize: 1647},
		},
		{path: "binance-bookticker-2024-08", symbol: "BTCUSDT", want: "BTCUSDT", quotes: 37_797 - 9_757},
		{path: "binance-bookticker-2024-08/ethusd_perp_20240808.bookticker_trade.txt.gz", want: "ETHUSD_PERP", quotes: 15_812},
	}
	for _, tt := range tests {
		t.Run(tt.path+" "+tt.symbol, func(t *testing.T) {
			all, r, err := readQuotes(filepath.Join(dir, tt.path), Options{Symbol: tt.symbol})
			if err != nil {
				t.Fatal(err)
			}
			crossed := 0
			for _, q := range all {
				if q.Bid > q.Ask {
					crossed++
				}
			}
			if r.src.symbol != tt.want || len(all) != tt.quotes || crossed != tt.crossed {
				t.Errorf("got %d quotes of %s, %d crossed; want %d of %s, %d", len(all), r.src.symbol, crossed, tt.quotes, tt.want, tt.crossed)
			}
			if tt.first != (market.Quote{}) && all[0] != tt.first {
				t.Errorf("first: got %+v, want %+v", all[0], tt.first)
			}
			if last := all[len(all)-1]; tt.last != (market.Quote{}) && last != tt.last {
				t.Errorf("last: got %+v, want %+v", last, tt.last)
			}
			if !slices.IsSortedFunc(all, func(a, b market.Quote) int { return int(a.Time - b.Time) }) {
				t.Error("times are not in order")
			}
			m.check(t, dir, r.files)
		})
	}
}

func TestReadSetsReference(t *testing.T) {
	dir := dataDir(t)
	s, err := Read(filepath.Join(dir, "gbpusd-fxcm-1m-bidask", "gbpusd-m1-bid-2012.csv.gz"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	mids := map[int64]float64{}
	for _, b := range s.Bars {
		mids[b.End()/1000] = b.Close
	}
	f, err := os.Open(filepath.Join(dir, "reference", "mid_spread_gbpusd.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		end, _ := strconv.ParseInt(row[0], 10, 64)
		mid, _ := strconv.ParseFloat(row[3], 64)
		if got := mids[end]; got < mid*(1-1e-10) || got > mid*(1+1e-10) {
			t.Errorf("mid at %d: got %v, want %v", end, got, mid)
		}
	}
}

// A row whose time is wrong by years would create a gap of years. It is named and refused, or left out if that is
// allowed.
func TestReadRefusesStrayRows(t *testing.T) {
	start := time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)
	row := func(at time.Time) string { return at.Format("2006-01-02 15:04:05") + ",10,10,10,10\n" }
	var sound strings.Builder
	for i := range 200 {
		sound.WriteString(row(start.Add(time.Duration(i) * time.Minute)))
	}
	var later strings.Builder // a second day years later is valid data
	for i := range 60 {
		later.WriteString(row(start.AddDate(2, 0, 0).Add(time.Duration(i) * time.Minute)))
	}
	for _, tt := range []struct {
		name, rows, want string
		allowed, kept    int
	}{
		{"a row of 2189", sound.String() + row(time.Date(2189, 1, 1, 0, 0, 0, 0, time.UTC)), "the row at 2189-01-01T00:00:00Z stands alone: the nearest other row is at 2024-05-01T03:20:00Z", 0, 0},
		{"a row of 1975", row(time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)) + sound.String(), "the row at 1975-01-01T00:00:00Z stands alone: the nearest other row is at 2024-05-01T00:00:00Z", 0, 0},
		{"two of them, one allowed", row(time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)) + sound.String() + row(time.Date(2189, 1, 1, 0, 0, 0, 0, time.UTC)), "the row at 2189", 1, 0},
		{"two of them, both allowed", row(time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)) + sound.String() + row(time.Date(2189, 1, 1, 0, 0, 0, 0, time.UTC)), "", 2, 200},
		{"an hour of another year", sound.String() + later.String(), "", 0, 260},
		{"a few rows, far apart", row(start) + row(start.AddDate(1, 0, 0)), "", 0, 2},
	} {
		path := filepath.Join(t.TempDir(), "bars.csv")
		if err := os.WriteFile(path, []byte("timestamp,open,high,low,close\n"+tt.rows), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Read(path, Options{MaxBadRows: tt.allowed})
		switch {
		case tt.want != "":
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case len(s.Bars) != tt.kept || s.Dropped[ReasonStray] != tt.allowed:
			t.Errorf("%s: %d bars, dropped %v; want %d and %d", tt.name, len(s.Bars), s.Dropped, tt.kept, tt.allowed)
		}
	}
}

// Ignored columns of a file are listed, so that users do not think that their labels or features were used.
func TestReadNamesIgnoredColumns(t *testing.T) {
	rows := func(header, cells string) string {
		var b strings.Builder
		b.WriteString(header + "\n")
		for i := range 20 {
			b.WriteString(time.Date(2024, 5, 1, 0, i, 0, 0, time.UTC).Format("2006-01-02 15:04:05") + cells + "\n")
		}
		return b.String()
	}
	for name, tt := range map[string]struct {
		content string
		want    []string
	}{
		"none":                {rows("timestamp,open,high,low,close,volume,bid,ask,symbol", ",10,10,10,10,1,9,11,X"), nil},
		"a label and feature": {rows("timestamp,Label,open,high,low,close,imb5", ",1,10,10,10,10,0.5"), []string{"Label", "imb5"}},
		"of quotes":           {rows("time,bid,ask,queue_ratio", ",9,11,0.5"), []string{"queue_ratio"}},
	} {
		path := filepath.Join(t.TempDir(), "bars.csv")
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Read(path, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(s.Ignored, tt.want) {
			t.Errorf("%s: got %q, want %q", name, s.Ignored, tt.want)
		}
	}
}

// checkBars checks the invariants of Bar and Series.
func checkBars(t testing.TB, bars []market.Bar) {
	t.Helper()
	for i, b := range bars {
		switch {
		case b.Start%market.MinuteMS != 0:
			t.Fatalf("bar %d: start %d is not on a minute", i, b.Start)
		case i > 0 && b.Start <= bars[i-1].Start:
			t.Fatalf("bar %d: start %d is not after %d", i, b.Start, bars[i-1].Start)
		case !(b.Low > 0 && b.Low <= b.Open && b.Low <= b.Close && b.Open <= b.High && b.Close <= b.High && market.IsPrice(b.High)):
			t.Fatalf("bar %d: prices out of order: %+v", i, b)
		case (b.Bid > 0) != (b.Ask > 0) || b.Bid < 0 || b.Ask < 0 || !(b.Volume >= 0):
			t.Fatalf("bar %d: got %+v", i, b)
		}
	}
}
