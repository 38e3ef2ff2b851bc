package marketfile

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

func TestReadCSV(t *testing.T) {
	bar := market.Bar{Start: 1704153600000, Open: 10, High: 12, Low: 9, Close: 11, Volume: 5}
	quoted, silent := bar, bar
	quoted.Bid, quoted.Ask = 10.5, 11.5
	silent.Volume = 0
	east := new(3 * time.Hour)
	tests := []struct {
		name, text string
		opts       Options
		want       market.Bar
	}{
		{"iso", "timestamp,open,high,low,close,volume\n2024-01-02 00:00:00,10,12,9,11,5\n", Options{}, bar},
		{"iso with zone", "timestamp,open,high,low,close,volume\n2024-01-02T01:30:00+01:30,10,12,9,11,5\n", Options{}, bar},
		{"iso in microseconds", "timestamp,open,high,low,close,volume\n2024-01-02 00:00:00.000000,10,12,9,11,5\n", Options{}, bar},
		{"seconds", "time,open,high,low,close,volume\n1704153600,10,12,9,11,5\n", Options{}, bar},
		{"seconds as a float", "time,open,high,low,close,volume\n1704153600.0,10,12,9,11,5\n", Options{}, bar},
		{"milliseconds", "ts_ms,open,high,low,close,volume\n1704153600000,10,12,9,11,5\n", Options{}, bar},
		{"microseconds", "ts,open,high,low,close,volume\n1704153600000000,10,12,9,11,5\n", Options{}, bar},
		{"nanoseconds", "ts,open,high,low,close,volume\n1704153600000000000,10,12,9,11,5\n", Options{}, bar},
		{"other order, case and spaces", "Close, High ,LOW,Open,Volume,Date,extra\n11,12,9,10,5,2024-01-02 00:00,x\n", Options{}, bar},
		{"bitfinex order", "ts_ms,open,close,high,low,volume\n1704153600000,10,11,12,9,5\n", Options{}, bar},
		{"bid and ask", "ts,open,high,low,close,bid,ask,volume\n1704153600,10,12,9,11,10.5,11.5,5\n", Options{}, quoted},
		{"bid and ask empty", "ts,open,high,low,close,bid,ask,volume\n1704153600,10,12,9,11,,,5\n", Options{}, bar},
		{"no volume", "ts,open,high,low,close\n1704153600,10,12,9,11\n", Options{}, silent},
		{"volume empty", "ts,open,high,low,close,volume\n1704153600,10,12,9,11,\n", Options{}, silent},
		{"byte order mark, CRLF, no last line end", "\xef\xbb\xbftimestamp,open,high,low,close,volume\r\n2024-01-02 00:00:00,10,12,9,11,5", Options{}, bar},
		{"quotation marks", "\"timestamp\",\"open\",\"high\",\"low\",\"close\",\"volume\"\n\"2024-01-02 00:00:00\",\"10\",\"12\",\"9\",\"11\",\"5\"\n", Options{}, bar},
		{"kline without header", "1704153600000,10,12,9,11,5,1704153659999,55,3,2,22,0\n", Options{}, bar},
		{"another clock", "timestamp,open,high,low,close,volume\n2024-01-02 03:00:00,10,12,9,11,5\n", Options{UTCOffset: east}, bar},
		{"another clock, epoch", "timestamp,open,high,low,close,volume\n1704164400,10,12,9,11,5\n", Options{UTCOffset: east}, bar},
		{"another clock, but a zone", "timestamp,open,high,low,close,volume\n2024-01-02 00:00:00Z,10,12,9,11,5\n", Options{UTCOffset: east}, bar},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			s, err := Read(store(t, "abc-usd_1m_2024-01.csv", tt.text), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Bars) != 1 || s.Bars[0] != tt.want {
				t.Errorf("got %+v, want %+v", s.Bars, tt.want)
			}
			if s.Symbol != "ABC-USD" {
				t.Errorf("symbol: got %q, want ABC-USD", s.Symbol)
			}
		})
	}
}

func TestReadQuotesCSV(t *testing.T) {
	t.Chdir(t.TempDir())
	file := store(t, "xyz.csv", "time,Bid,Ask,BidSize,ask_size\n1704153600.5,10,11,1,2\n1704153600.5,10,12,,3\n1704153601,9,12,0,0\n1704153600,9,12,0,0\n")
	got, _, err := readQuotes(file, Options{})
	want := []market.Quote{
		{Time: 1704153600500, Bid: 10, Ask: 11, BidSize: 1, AskSize: 2},
		{Time: 1704153600500, Bid: 10, Ask: 12, AskSize: 3},
		{Time: 1704153601000, Bid: 9, Ask: 12},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantErr := `xyz.csv:5: goes back in time: it is at 2024-01-02T00:00:00Z, the previous row at 2024-01-02T00:00:01Z`
	if err == nil || err.Error() != wantErr {
		t.Errorf("got %v, want %s", err, wantErr)
	}
}

// readQuotes reads the single quotes of a file or a folder.
func readQuotes(path string, opts Options) (quotes []market.Quote, r *reading, err error) {
	src, err := find(path, opts)
	if err != nil {
		return nil, nil, err
	}
	r = newReading(src, opts)
	err = r.quotes(func(q market.Quote) { quotes = append(quotes, q) }, nil)
	return quotes, r, err
}

// FuzzRead reads arbitrary bytes. Bars that are read satisfy the invariants of Bar and survive being written and read
// again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(goodRows))
	f.Add([]byte("1704153600000,10,12,9,11,5,1704153659999,55,3,2,22,0\n"))
	f.Add([]byte("ts_ms,bid,ask\n1704153600001,10,11\n"))
	f.Add([]byte(`1723161256207640365 {"stream":"x@bookTicker","data":{"s":"X","b":"1","a":"2"}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "abc.csv")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Read(file, Options{MaxBadRows: 2, MaxBytes: 1 << 20})
		if err != nil {
			if s != nil || !strings.Contains(err.Error(), file) {
				t.Fatalf("got %v with %v: the error does not name the file", s, err)
			}
			return
		}
		checkBars(t, s.Bars)
		var b bytes.Buffer
		if err := market.WriteBars(&b, s); err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, "copy.csv")
		if err := os.WriteFile(copied, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Read(copied, Options{})
		if err != nil {
			t.Fatalf("read back: %v", err)
		}
		if !slices.Equal(again.Bars, s.Bars) || again.Symbol != s.Symbol || again.Simulated != s.Simulated {
			t.Fatalf("read back: got %+v, want %+v", again, s)
		}
	})
}
