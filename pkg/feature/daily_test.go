package feature

import (
	"math"
	"testing"
)

// pushDay pushes n minutes of one UTC day with returns of +-r and one spread.
func pushDay(d *daily, day, n int, r, spread float64) {
	for i := range n {
		d.push(int64(day)*dayMS+int64(i)*60_000, r, spread)
		r = -r
	}
}

func TestDailyReferences(t *testing.T) {
	type day struct {
		n         int
		r, spread float64
	}
	nan := math.NaN()
	tests := []struct {
		name          string
		days          []day
		sigma, spread float64
	}{
		{"a day that is not over does not count", []day{}, nan, nan},
		{"one day", []day{{1440, 3, 2}}, 3, 2},
		{"299 returns are not a day", []day{{299, 3, 2}}, nan, nan},
		{"300 are", []day{{300, 3, 2}}, 3, 2},
		{"two days: the mean of the middle two", []day{{400, 3, 2}, {400, 5, 3}}, 4, 2.5},
		{"one extreme day changes nothing", []day{{400, 3, 2}, {400, 3, 2}, {400, 900, 70}}, 3, 2},
		{"a short day is skipped", []day{{400, 3, 2}, {200, 9, 9}, {400, 3, 2}}, 3, 2},
		{"only the last seven days count", []day{{400, 1, 1}, {400, 1, 1}, {400, 1, 1}, {400, 1, 1}, {400, 8, 4}, {400, 8, 4}, {400, 8, 4}, {400, 8, 4}}, 8, 4},
		{"two sessions of 240 minutes do not count yet", []day{{240, 3, 2}, {240, 3, 2}}, nan, nan},
		{"the third session counts", []day{{240, 3, 2}, {240, 4, 2}, {240, 5, 3}}, 5, 3},
		{"and so does the fourth", []day{{240, 3, 2}, {240, 4, 2}, {240, 5, 3}, {230, 7, 4}}, 6, 3.5},
		{"half a session counts", []day{{240, 3, 2}, {240, 4, 2}, {120, 5, 3}}, 5, 3},
		{"less than half does not", []day{{240, 3, 2}, {240, 4, 2}, {119, 5, 3}}, nan, nan},
		{"sessions of 59 minutes never count", []day{{59, 3, 2}, {59, 4, 2}, {59, 5, 3}, {59, 5, 3}}, nan, nan},
		{"a Sunday evening of FX does not count", []day{{1440, 3, 2}, {1440, 3, 2}, {1440, 3, 2}, {120, 9, 9}}, 3, 2},
		{"days without returns are ignored", []day{{240, 3, 2}, {240, nan, 2}, {240, 4, 2}}, nan, nan},
		{"floors", []day{{400, 0, 0}}, 0.05, 0.01},
		{"a day without spread", []day{{400, 3, nan}}, 3, nan},
		{"the other days have one", []day{{400, 3, nan}, {400, 3, 2}}, 3, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDaily()
			for i, day := range tt.days {
				pushDay(&d, 100+i, day.n, day.r, day.spread)
			}
			pushDay(&d, 100+len(tt.days), 1000, 1e6, 1e6) // the current day must not matter
			if !same(d.sigmaRef, tt.sigma) || !same(d.spreadRef, tt.spread) {
				t.Errorf("got %v, %v, want %v, %v", d.sigmaRef, d.spreadRef, tt.sigma, tt.spread)
			}
		})
	}
}

func TestFloorDay(t *testing.T) {
	tests := []struct {
		name string
		ms   int64
		want int64
	}{
		{"epoch", 0, 0},
		{"last millisecond", dayMS - 1, 0},
		{"midnight", dayMS, 1},
		{"before 1970", -1, -1},
		{"a whole day before", -dayMS, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := floorDay(tt.ms); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
