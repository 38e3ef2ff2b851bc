package marketfile

import (
	"maps"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

const sideHeader = "timestamp,open,high,low,close\n"

func TestReadSides(t *testing.T) {
	const (
		bid = sideHeader + "2024-01-02 00:00:00,10,12,9,11\n2024-01-02 00:01:00,11,11,11,11\n2024-01-02 00:02:00,11,11,11,11\n"
		ask = sideHeader + "2024-01-02 00:00:00,11,14,9.5,12\n2024-01-02 00:02:00,10,10.5,10,10.5\n2024-01-02 00:03:00,10,10.5,10,10.5\n"
	)
	tests := []struct {
		name    string
		opts    Options
		dropped map[string]int
		bars    int
		want    string
	}{
		{"strict", Options{}, nil, 0, "abc-bid.csv:3: is at 2024-01-02T00:01:00Z, a minute that the ask file does not have"},
		{"one sided allowed", Options{MaxBadRows: 2}, map[string]int{ReasonOneSide: 2}, 2, ""},
		{"too many", Options{MaxBadRows: 1}, nil, 0, "2 bad rows, 1 allowed; the first: abc-bid.csv:3: is at"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			store(t, "abc-bid.csv", bid)
			store(t, "abc-ask.csv.gz", gzipped(t, ask))
			for _, path := range []string{"abc-bid.csv", "abc-ask.csv.gz", "."} {
				s, err := Read(path, tt.opts)
				if tt.want != "" {
					if err == nil || err.Error() != tt.want && !strings.HasPrefix(err.Error(), tt.want) {
						t.Errorf("%s: got %v, want %s", path, err, tt.want)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				if len(s.Bars) != tt.bars || !maps.Equal(s.Dropped, tt.dropped) || s.Symbol != "ABC" {
					t.Errorf("%s: got %d bars of %s, dropped %v; want %d, %v", path, len(s.Bars), s.Symbol, s.Dropped, tt.bars, tt.dropped)
				}
				want := market.Bar{Start: 1704153600000, Open: 10.5, High: 13, Low: 9.25, Close: 11.5, Bid: 11, Ask: 12}
				if s.Bars[0] != want {
					t.Errorf("%s: got %+v, want %+v", path, s.Bars[0], want)
				}
			}
		})
	}
}

func TestReadSideAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	store(t, "set/abc-bid.csv", sideHeader+"2024-01-02 00:00:00,10,12,9,11\n")
	store(t, "set/other-ask.csv", sideHeader+"2024-01-02 00:00:00,10,12,9,11\n")
	tests := []struct {
		path string
		opts Options
		want string
	}{
		{"set/abc-bid.csv", Options{}, "set/abc-bid.csv: has only the bid; there is no ask file in the same folder"},
		{"set", Options{Symbol: "other"}, "set/other-ask.csv: has only the ask; there is no bid file in the same folder"},
	}
	for _, tt := range tests {
		if _, err := Read(tt.path, tt.opts); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	store(t, "set/abc-ask.csv", sideHeader+"2024-01-02 00:00:00,10,12,9,11\n")
	store(t, "set/abc-ask.csv.gz", gzipped(t, sideHeader+"2024-01-02 00:00:00,10,12,9,11\n"))
	if _, err := Read("set", Options{Symbol: "ABC"}); err == nil || !strings.Contains(err.Error(), "is the same side as") {
		t.Errorf("got %v, want an error about the same side", err)
	}
}
