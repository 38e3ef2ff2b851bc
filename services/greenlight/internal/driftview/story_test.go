package driftview

import (
	"strings"
	"testing"
)

func TestStory(t *testing.T) {
	tests := []struct {
		name  string
		days  int
		raw   bool
		moved [4]float64
		want  []string
	}{
		{"nothing", 7, true, [4]float64{}, []string{"Nothing is beyond"}},
		{"the market alone", 7, true, [4]float64{0, 0, 0, 3}, []string{"The market has moved, and what the model sees of it has not", "raw mid (", "overall"}},
		{"the market and the model", 7, true, [4]float64{2, 0, 0, 3}, []string{"and the model sees it", "mid (", "overall (", "vol1m_log_rel ("}},
		{"the score", 7, true, [4]float64{0, 0, 2, 0}, []string{"is not what it was trained on: score ("}},
		{"no raw inputs", 7, false, [4]float64{}, []string{"Nothing is beyond", "No raw inputs came"}},
		{"the model without raw inputs", 7, false, [4]float64{2, 0, 0, 3}, []string{"is not what it was trained on: overall (", "No raw inputs came"}},
		{"too few days to tell", 4, true, [4]float64{2, 2, 2, 2}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := report(t, tt.days, tt.raw, tt.moved).Story()
			if (got == "") != (tt.want == nil) {
				t.Errorf("got %q", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}
