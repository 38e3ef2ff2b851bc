package marketfile

import (
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

const (
	bookTicker = `{"stream":"abc@bookTicker","data":{"u":1,"e":"bookTicker","s":"ABC","b":"10.0","B":"3","a":"11.0","A":"4","T":1,"E":2}}`
	tradeEvent = `{"stream":"abc@trade","data":{"e":"trade","E":1,"T":2,"s":"ABC","t":8,"p":"10.5","q":"2.5","X":"MARKET","m":true,"M":true}}`
)

func TestReadCapture(t *testing.T) {
	t.Chdir(t.TempDir())
	file := store(t, "abc.txt.gz", gzipped(t, strings.Join([]string{
		"1704153600000000001 " + tradeEvent, // arrives before the first quote of its minute
		"1704153601999999999 " + bookTicker,
		"1704153602000000000 " + tradeEvent,
		`1704153602000000001 {"stream":"abc@depth","data":{"s":"ABC"}}`,
		"1704153661000000000 " + strings.Replace(bookTicker, `"11.0"`, `"12.0"`, 1),
	}, "\n")))
	s, err := Read(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []market.Bar{
		{Start: 1704153600000, Open: 10.5, High: 10.5, Low: 10.5, Close: 10.5, Bid: 10, Ask: 11, Volume: 5},
		{Start: 1704153660000, Open: 11, High: 11, Low: 11, Close: 11, Bid: 10, Ask: 12},
	}
	if s.Symbol != "ABC" || len(s.Bars) != 2 || s.Bars[0] != want[0] || s.Bars[1] != want[1] {
		t.Errorf("got %s %+v, want ABC %+v", s.Symbol, s.Bars, want)
	}
}

func TestReadCaptureBadRows(t *testing.T) {
	first := "1704153600000000001 " + bookTicker + "\n"
	tests := []struct{ name, text, want string }{
		{"no object", first + "1704153600000000002 {\n", "abc.txt:2: is not a message of a stream: unexpected end of JSON input"},
		{"time", first + "x " + bookTicker + "\n", `abc.txt:2: column "receive time": "x" is not a time: want the epoch in ns`},
		{"backwards", first + "1704153500000000000 " + bookTicker + "\n", "abc.txt:2: goes back in time"},
		{"trade backwards", first + "1704153500000000000 " + tradeEvent + "\n", "abc.txt:2: goes back in time"},
		{"bid", first + "1704153600000000002 " + strings.Replace(bookTicker, `"10.0"`, `"ten"`, 1) + "\n", `abc.txt:2: column "b": "ten" is not a number`},
		{"crossed", first + "1704153600000000002 " + strings.Replace(bookTicker, `"10.0"`, `"11.5"`, 1) + "\n", `abc.txt:2: column "b": "11.5" is above the ask 11`},
		{"size", first + "1704153600000000002 " + strings.Replace(bookTicker, `"3"`, `"-3"`, 1) + "\n", `abc.txt:2: column "B": "-3" is negative`},
		{"instrument", first + "1704153600000000002 " + strings.ReplaceAll(bookTicker, "ABC", "XYZ") + "\n", `abc.txt:2: column "s": "XYZ" is another instrument than ABC`},
		{"duplicate", first + first, "abc.txt:2: repeats the previous row byte for byte"},
		{"first line", "1704153600000000001 {}\n", "abc.txt: want lines like: 1723161256207640365"},
		{"no quotes", "1704153600000000001 " + tradeEvent + "\n", "abc.txt: no row could be used"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			_, err := Read(store(t, "abc.txt", tt.text), Options{})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
