package marketfile

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// store writes a file into the test's folder, which becomes the working directory, and returns its name.
func store(t testing.TB, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const goodRows = "timestamp,open,high,low,close,volume\n" +
	"2024-01-02 00:00:00,10,12,9,11,5\n" +
	"2024-01-02 00:01:00,11,12,10,12,0\n"

func TestReadBadRows(t *testing.T) {
	const header, quoted = "timestamp,open,high,low,close,volume\n", "timestamp,open,high,low,close,bid,ask\n"
	tests := []struct {
		name, text string
		reason     string
		want       string
	}{
		{"column missing", goodRows + "2024-01-02 00:02:00,1,1,1,1\n", ReasonColumns, `bars.csv:4: has 5 columns, the header has 6`},
		{"another instrument", "timestamp,symbol,open,high,low,close\n2024-01-02 00:00:00,AAA,10,12,9,11\n2024-01-02 00:01:00,BBB,10,12,9,11\n", ReasonSymbol, `bars.csv:3: column "symbol": "BBB" is another instrument than "AAA" in the rows before: use one file per instrument`},
		{"column too many", goodRows + "2024-01-02 00:02:00,1,1,1,12,5,0\n", ReasonColumns, `bars.csv:4: has 7 columns, the header has 6`},
		{"open quotation", goodRows + "2024-01-02 00:02:00,\"1,1,1,1,1\n", ReasonColumns, `bars.csv:4: has a quotation mark out of place`},
		{"decimal comma", goodRows + "2024-01-02 00:02:00,11,13,11,\"12,5\",0\n", ReasonNumber, `bars.csv:4: column "close": "12,5" is not a number`},
		{"word", goodRows + "2024-01-02 00:02:00,11,13,n/a,12,0\n", ReasonNumber, `bars.csv:4: column "low": "n/a" is not a number`},
		{"empty cell", goodRows + "2024-01-02 00:02:00,,13,11,12,0\n", ReasonNumber, `bars.csv:4: column "open": "" is not a number`},
		{"hexadecimal", goodRows + "2024-01-02 00:02:00,0x1p4,16,16,16,0\n", ReasonNumber, `bars.csv:4: column "open": "0x1p4" is not a number`},
		{"out of float64", goodRows + "2024-01-02 00:02:00,1e999,16,16,16,0\n", ReasonNumber, `bars.csv:4: column "open": "1e999" is not a number`},
		{"nan", goodRows + "2024-01-02 00:02:00,NaN,16,16,16,0\n", ReasonNumber, `bars.csv:4: column "open": "NaN" is not a finite number`},
		{"infinite", goodRows + "2024-01-02 00:02:00,16,-Inf,16,16,0\n", ReasonNumber, `bars.csv:4: column "high": "-Inf" is not a finite number`},
		{"volume nan", goodRows + "2024-01-02 00:02:00,11,12,11,12,nan\n", ReasonNumber, `bars.csv:4: column "volume": "nan" is not a finite number`},
		{"volume negative", goodRows + "2024-01-02 00:02:00,11,12,11,12,-1\n", ReasonPrice, `bars.csv:4: column "volume": "-1" is negative: want 0 or more`},
		{"price zero", goodRows + "2024-01-02 00:02:00,11,12,0,12,1\n", ReasonPrice, `bars.csv:4: column "low": "0" is not a price: want more than 0`},
		{"price negative", goodRows + "2024-01-02 00:02:00,11,12,-3,12,1\n", ReasonPrice, `bars.csv:4: column "low": "-3" is not a price: want more than 0`},
		{"price absurd", goodRows + "2024-01-02 00:02:00,11,1e13,11,12,1\n", ReasonPrice, `bars.csv:4: column "high": "1e13" is not a price: want 1e-12 to 1e12`},
		{"high below low", goodRows + "2024-01-02 00:02:00,11,10,12,11,1\n", ReasonRange, `bars.csv:4: column "high": "10" is below the low 12`},
		{"open above high", goodRows + "2024-01-02 00:02:00,14,13,12,12.5,1\n", ReasonRange, `bars.csv:4: column "open": "14" is outside low 12 to high 13`},
		{"close below low", goodRows + "2024-01-02 00:02:00,12,13,12,11.5,1\n", ReasonRange, `bars.csv:4: column "close": "11.5" is outside low 12 to high 13`},
		{"crossed", quoted + "2024-01-02 00:00:00,10,10,10,10,9,11\n2024-01-02 00:01:00,10,10,10,10,11,9\n", ReasonCrossed, `bars.csv:3: column "bid": "11" is above the ask 9`},
		{"half a quote", quoted + "2024-01-02 00:00:00,10,10,10,10,9,11\n2024-01-02 00:01:00,10,10,10,10,,9\n", ReasonNumber, `bars.csv:3: column "bid": "" is not a number`},
		{"no time", goodRows + "yesterday,10,12,9,11,5\n", ReasonTime, `bars.csv:4: column "timestamp": "yesterday" is not a time: want like 2006-01-02 15:04:05, or the epoch in s, ms, us or ns`},
		{"no such day", goodRows + "2024-02-30 00:00:00,10,12,9,11,5\n", ReasonTime, `bars.csv:4: column "timestamp": "2024-02-30 00:00:00" is not a time`},
		{"between minutes", goodRows + "2024-01-02 00:02:30,10,12,9,11,5\n", ReasonMinute, `bars.csv:4: column "timestamp": "2024-01-02 00:02:30" is not on a minute`},
		{"backwards", goodRows + "2024-01-01 23:00:00,10,12,9,11,5\n", ReasonBackwards, `bars.csv:4: column "timestamp": "2024-01-01 23:00:00" goes back in time: the previous row is at 2024-01-02T00:01:00Z`},
		{"repeated", goodRows + "2024-01-02 00:01:00,10,12,9,11,5\n", ReasonRepeated, `bars.csv:4: column "timestamp": "2024-01-02 00:01:00" repeats the minute of the previous row with other values`},
		{"duplicate", goodRows + "2024-01-02 00:01:00,11,12,10,12,0\n", ReasonDuplicate, `bars.csv:4: repeats the previous row byte for byte`},
		{"long text", goodRows + "2024-01-02 00:02:00," + strings.Repeat("9", 100) + ",13,11,12,0\n", ReasonPrice, `column "open": "` + strings.Repeat("9", 60) + `..." is not a price`},
		{"first row", header + "x,1,1,1,1,1\n" + strings.TrimPrefix(goodRows, header), ReasonTime, `bars.csv:2: column "timestamp": "x" is not a time`},
		{"after blank lines and a comment", "# from my broker\r\n\r\n" + strings.ReplaceAll(goodRows, "\n", "\r\n") + "2024-01-02 00:02:00,x,1,1,1,1\r\n", ReasonNumber, `bars.csv:6: column "open": "x" is not a number`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			file := store(t, "bars.csv", tt.text)
			_, err := Read(file, Options{})
			var row *RowError
			if !errors.As(err, &row) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if row.Reason != tt.reason {
				t.Errorf("reason: got %q, want %q", row.Reason, tt.reason)
			}
			s, err := Read(file, Options{MaxBadRows: 1})
			if err != nil {
				t.Fatalf("with one bad row allowed: %v", err)
			}
			if want := map[string]int{tt.reason: 1}; !maps.Equal(s.Dropped, want) {
				t.Errorf("dropped: got %v, want %v", s.Dropped, want)
			}
			checkBars(t, s.Bars)
		})
	}
}

func TestReadTooManyBadRows(t *testing.T) {
	t.Chdir(t.TempDir())
	file := store(t, "bars.csv", goodRows+"2024-01-02 00:02:00,1,1,1,x,1\n2024-01-02 00:03:00,1,1,1,1\n2024-01-02 00:04:00,0,1,1,1,1\n")
	_, err := Read(file, Options{MaxBadRows: 2})
	want := `3 bad rows, 2 allowed; the first: bars.csv:4: column "close": "x" is not a number`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	s, err := Read(file, Options{MaxBadRows: 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{ReasonNumber: 1, ReasonColumns: 1, ReasonPrice: 1}; !maps.Equal(s.Dropped, want) || len(s.Bars) != 2 {
		t.Errorf("got %d bars, dropped %v; want 2, %v", len(s.Bars), s.Dropped, want)
	}
}

func TestReadNothingLeft(t *testing.T) {
	t.Chdir(t.TempDir())
	file := store(t, "bars.csv", "timestamp,open,high,low,close\nx,1,1,1,1\n")
	_, err := Read(file, Options{MaxBadRows: 9})
	if want := "bars.csv: no row could be used"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReadCrossed(t *testing.T) {
	t.Chdir(t.TempDir())
	file := store(t, "bars.csv", "timestamp,open,high,low,close,bid,ask\n2024-01-02 00:01:00,10,10,10,10,11,9\n2024-01-02 00:02:00,10,10,10,10,9,9\n")
	if _, err := Read(file, Options{}); err == nil {
		t.Error("got no error")
	}
	s, err := Read(file, Options{MaxBadRows: 1})
	if err != nil {
		t.Fatal(err)
	}
	if s.Dropped[ReasonCrossed] != 1 || len(s.Bars) != 1 {
		t.Errorf("left out %v, %d bars are left: want 1 crossed and 1", s.Dropped, len(s.Bars))
	}
}
