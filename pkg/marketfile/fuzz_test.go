package marketfile

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// fuzzFile reads a file with that name and content. Bars that are read satisfy the invariants of Bar, an error names
// the file, and neither takes more memory than the text justifies.
func fuzzFile(t *testing.T, name, content string, opts Options) {
	t.Helper()
	t.Chdir(t.TempDir())
	opts.MaxBytes = 1 << 20
	file := store(t, name, content)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := Read(file, opts)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 { // readers and their buffers take some 2 MB
		t.Fatalf("%d bytes of memory for %d of text", took, len(content))
	}
	if err != nil {
		if s != nil || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Fatalf("got %v with %v: the error does not name the file", s, err)
		}
		return
	}
	if len(s.Bars) == 0 {
		t.Fatal("read without an error, but there is nothing")
	}
	checkBars(t, s.Bars)
}

// FuzzLean reads a zip with a LEAN name, built from the text or used as it is.
func FuzzLean(f *testing.F) {
	const minute = "0,1,1,1,1,7,2,2,2,2,8\n60000,1,1,1,1,7,2,2,2,2,8\n"
	f.Add(minute, "quote", false, false)
	f.Add("60000,1,1,1,1,5.5\n120000,1,1,1,1,6\n", "trade", false, true)
	f.Add("0,1,1,1,1,0,2,2,2,2,0\n60000,3,3,3,3,0,2,2,2,2,0", "quote", false, true)
	f.Add(zipped(f, "20180404_btcusd_minute_quote.csv", minute), "quote", true, false)
	f.Add(zipped(f, "../20180404_btcusd_minute_quote.csv", minute), "quote", true, false)
	f.Fuzz(func(t *testing.T, text, kind string, stored, tradesOnly bool) {
		if kind != "quote" {
			kind = "trade"
		}
		if !stored {
			text = zipped(t, "20180404_btcusd_minute_"+kind+".csv", text)
		}
		fuzzFile(t, "20180404_"+kind+".zip", text, Options{TradesOnly: tradesOnly, MaxBadRows: 1})
	})
}

// FuzzCapture reads messages captured from an exchange, one per line.
func FuzzCapture(f *testing.F) {
	f.Add("1704153600000000001 " + tradeEvent + "\n1704153601999999999 " + bookTicker + "\n1704153661000000000 " + bookTicker + "\n")
	f.Add("1704153601999999999 " + bookTicker + "\n" + `1704153602000000001 {"stream":"abc@depth","data":{"s":"ABC"}}` + "\n")
	f.Add("1704153601999999999 " + strings.Replace(bookTicker, `"10.0"`, `"1e400"`, 1) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		fuzzFile(t, "abc.txt", text, Options{MaxBadRows: 2})
	})
}

// FuzzQuotes reads single quotes: times must not go back, and prices must be valid.
func FuzzQuotes(f *testing.F) {
	f.Add("ts_ms,bid,ask\n1704153600001,10,11\n1704153600002,11,12\n", "abc.csv")
	f.Add("1704153601999999999 "+bookTicker+"\n", "abc.txt")
	f.Fuzz(func(t *testing.T, text, name string) {
		if name != "abc.txt" {
			name = "abc.csv"
		}
		t.Chdir(t.TempDir())
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		quotes, _, _ := readQuotes(name, Options{MaxBytes: 1 << 20, MaxBadRows: 2})
		last := int64(0)
		for _, quote := range quotes {
			if quote.Time < last || !market.IsPrice(quote.Bid) || !market.IsPrice(quote.Ask) {
				t.Fatalf("got %+v after %d", quote, last)
			}
			last = quote.Time
		}
	})
}
