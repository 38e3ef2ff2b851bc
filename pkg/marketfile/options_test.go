package marketfile

import (
	"testing"
	"time"
)

func TestReadOptions(t *testing.T) {
	tests := []struct {
		name string
		opts Options
		want string
	}{
		{"bad rows", Options{MaxBadRows: -1}, "max bad rows -1: want 0 or more"},
		{"bytes", Options{MaxBytes: -1}, "max bytes -1: want 0 (4 GiB) or more"},
		{"offset of days", Options{UTCOffset: new(48 * time.Hour)}, "UTC offset 48h0m0s: want whole minutes, at most 14h"},
		{"offset of seconds", Options{UTCOffset: new(time.Second)}, "UTC offset 1s: want whole minutes, at most 14h"},
		{"trades only of a CSV", Options{TradesOnly: true}, "a.csv: trades only is for LEAN zips, which have both"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			file := store(t, "a.csv", goodRows)
			_, err := Read(file, tt.opts)
			if err == nil || err.Error() != tt.want {
				t.Errorf("Read: got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestReadSymbolOfAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := Read(store(t, "a.csv", goodRows), Options{Symbol: "My-Coin"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Symbol != "My-Coin" {
		t.Errorf("got %q, want My-Coin", s.Symbol)
	}
}
