package serve

import "testing"

func TestGarbageIsBounded(t *testing.T) {
	for live, want := range map[uint64]int{0: gcPercent, 4 << 20: gcPercent, 8 << 20: gcPercent, 16 << 20: 200, 64 << 20: leastPercent, 1 << 40: leastPercent} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes in use: got %d %%, want %d", live, got, want)
		}
	}
}
