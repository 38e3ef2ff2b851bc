package retrain

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

func TestLimits(t *testing.T) {
	whole := data(t)
	hole := func(from, to int) []market.Bar { // days without a bar
		return slices.DeleteFunc(slices.Clone(whole.Bars), func(b market.Bar) bool {
			day := int((b.Start - whole.Bars[0].Start) / dayMS)
			return day >= from && day < to
		})
	}
	frozen := slices.Clone(whole.Bars)
	for i := range frozen {
		b := frozen[0]
		b.Start = frozen[i].Start
		frozen[i] = b
	}
	stale, split := slices.Clone(whole.Bars), slices.Clone(whole.Bars)
	for i := range stale {
		if last := len(stale) - 1440; i >= last {
			b := stale[last-1]
			b.Start = stale[i].Start
			stale[i] = b
		}
		if b := &split[i]; i >= len(split)/2 {
			b.Open, b.High, b.Low, b.Close = b.Open/10, b.High/10, b.Low/10, b.Close/10
			b.Bid, b.Ask = b.Bid/10, b.Ask/10
		}
	}
	tests := []struct {
		name   string
		bars   []market.Bar
		limits func(*Limits)
		want   []string // parts of the reasons; empty for no refusal
	}{
		{"enough", whole.Bars, func(*Limits) {}, nil},
		{"a long weekend", hole(10, 13), func(*Limits) {}, nil},
		{"a gap", hole(10, 15), func(*Limits) {}, []string{"no data from 2025-01-16 00:00 to 2025-01-21 00:00: a gap of 5.0 days, 4.0 are allowed"}},
		{"a gap that is allowed", hole(10, 15), func(l *Limits) { l.MaxGap = 5 * 24 * time.Hour }, nil},
		{"too few days", whole.Bars[:10*1440], func(*Limits) {}, []string{"9 days with usable rows, 14 needed"}},
		{"too few positives", whole.Bars, func(l *Limits) { l.MinPositives = 1e6 }, []string{"1000000 needed"}},
		{"a frozen price", frozen, func(*Limits) {}, []string{"frozen minutes 100.0 %", "longest frozen stretch", "longest flat run 34559 min is not <= 360 min", "a gap of 24.0 days", "0 days", "0 positive rows"}},
		{"a feed frozen for a day", stale, func(*Limits) {}, []string{"frozen minutes 4.2 %", "longest frozen stretch", "longest flat run 1440 min"}},
		{"a 10:1 split", split, func(*Limits) {}, []string{"largest one-minute move 9"}},
		{"no row, whatever the limits", whole.Bars[:100], func(l *Limits) { *l = Limits{} }, []string{"0 days with usable rows, 1 needed"}},
		{"all at once", hole(1, 14), func(*Limits) {}, []string{"gap of 13.0 days", "days with usable rows, 14 needed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limits := DefaultLimits()
			tt.limits(&limits)
			_, err := limits.Check(population(t, with(whole, tt.bars)))
			var refusal *RefusalError
			switch {
			case len(tt.want) == 0 && err != nil:
				t.Fatalf("got %v, want no refusal", err)
			case len(tt.want) == 0:
				return
			case !errors.As(err, &refusal):
				t.Fatalf("got %v, want a refusal", err)
			}
			if len(refusal.Reasons) != len(tt.want) || refusal.Hint == "" {
				t.Fatalf("got reasons %q, hint %q, want %d reasons and a hint", refusal.Reasons, refusal.Hint, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(refusal.Reasons[i], want) {
					t.Errorf("reason %q, want %q in it", refusal.Reasons[i], want)
				}
			}
		})
	}
}

func TestLongestGap(t *testing.T) {
	at := func(minutes ...int64) []market.Bar {
		bars := make([]market.Bar, len(minutes))
		for i, m := range minutes {
			bars[i].Start = m * market.MinuteMS
		}
		return bars
	}
	for _, tt := range []struct {
		name       string
		bars       []market.Bar
		want, from time.Duration
	}{
		{"no bars", nil, 0, 0},
		{"one bar", at(5), 0, 0},
		{"no gap", at(5, 6, 7), 0, 0},
		{"the longer of two", at(0, 1, 4, 5, 9), 3 * time.Minute, 6 * time.Minute},
		{"the first of equals", at(0, 3, 6), 2 * time.Minute, time.Minute},
	} {
		got := LongestGap(experiment.NewData(&market.Series{Bars: tt.bars}, ""))
		if got.Length() != tt.want {
			t.Errorf("%s: length %v, want %v", tt.name, got.Length(), tt.want)
		}
		if tt.want > 0 && got.From.Sub(time.UnixMilli(0)) != tt.from {
			t.Errorf("%s: from %v, want %v", tt.name, got.From, tt.from)
		}
	}
}
