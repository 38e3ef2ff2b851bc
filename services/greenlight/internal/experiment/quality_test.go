package experiment

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

const dayMinutes = 24 * 60

// Misleading data does not pass, and the verdict names the rule. A quiet hour or an outage is not misleading.
func TestMisleadingDataDoNotPass(t *testing.T) {
	sim, err := Simulate(market.SimulateOptions{Seed: 9, Days: 61})
	if err != nil {
		t.Fatal(err)
	}
	freeze := func(bars []market.Bar, from, minutes int) {
		for i := from; i < from+minutes; i++ {
			b := bars[from-1]
			b.Start, b.Volume = bars[i].Start, 0
			b.Open, b.High, b.Low = b.Close, b.Close, b.Close
			bars[i] = b
		}
	}
	scale := func(bars []market.Bar, by float64) {
		for i := range bars {
			b := &bars[i]
			for _, p := range []*float64{&b.Open, &b.High, &b.Low, &b.Close, &b.Bid, &b.Ask} {
				*p *= by
			}
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func([]market.Bar) []market.Bar
		want  gate.Verdict
		rules []string // those that are not PASS
	}{
		{"a sound market", func(b []market.Bar) []market.Bar { return b }, gate.Pass, nil},
		{"a quiet hour", func(b []market.Bar) []market.Bar { freeze(b, 5000, 75); return b }, gate.Pass, nil},
		{"one maintenance window of 3 hours", func(b []market.Bar) []market.Bar { freeze(b, 5000, 180); return b }, gate.Pass, nil},
		{"an outage of a day", func(b []market.Bar) []market.Bar { return slices.Delete(b, 5000, 6440) }, gate.Pass, nil},
		{"a day frozen", func(b []market.Bar) []market.Bar { freeze(b, 5000, dayMinutes); return b }, gate.Fail, []string{gate.FrozenMinutes, gate.LongestFrozen, gate.LongestFlatRun}},
		{"3 days frozen", func(b []market.Bar) []market.Bar { freeze(b, 5000, 3*dayMinutes); return b }, gate.Fail, []string{gate.FrozenMinutes, gate.LongestFrozen, gate.LongestFlatRun}},
		{"8 half days frozen", func(b []market.Bar) []market.Bar {
			for i := range 8 {
				freeze(b, (3+7*i)*dayMinutes+200, dayMinutes/2)
			}
			return b
		}, gate.Fail, []string{gate.FrozenMinutes, gate.LongestFrozen, gate.LongestFlatRun}},
		{"3 hours frozen every other day", func(b []market.Bar) []market.Bar {
			for i := range 30 {
				freeze(b, 2*i*dayMinutes+300, 180)
			}
			return b
		}, gate.Fail, []string{gate.FrozenMinutes}},
		{"a day of two prices", func(b []market.Bar) []market.Bar {
			freeze(b, 5000, dayMinutes)
			for i := 5000; i < 5000+dayMinutes; i += 2 {
				scale(b[i:i+1], 1.0001)
			}
			return b
		}, gate.Fail, []string{gate.FrozenMinutes, gate.LongestFrozen}},
		{"a day that repeats the day before", func(b []market.Bar) []market.Bar {
			for i := 5000; i < 5000+dayMinutes; i++ {
				at := b[i].Start
				b[i] = b[i-dayMinutes]
				b[i].Start = at
			}
			return b
		}, gate.Fail, []string{gate.FrozenMinutes, gate.LongestFrozen}},
		{"a hole of 8 hours filled with a straight line", func(b []market.Bar) []market.Bar {
			from, to := b[4999].Close, b[5480].Close*1.01
			for i := 5000; i < 5480; i++ {
				scale(b[i:i+1], (from+(to-from)*float64(i-4999)/481)/b[i].Close)
			}
			return b
		}, gate.Fail, []string{gate.LongestFrozen}},
		{"a 10:1 split", func(b []market.Bar) []market.Bar { scale(b[5000:], 0.1); return b }, gate.Fail, []string{gate.LargestMove}},
		{"a 5:4 split", func(b []market.Bar) []market.Bar { scale(b[5000:], 0.8); return b }, gate.Fail, []string{gate.LargestMove}},
		{"a spike of 50 %", func(b []market.Bar) []market.Bar { scale(b[5000:5001], 1.5); return b }, gate.Fail, []string{gate.LargestMove}},
		{"a split over a week-end", func(b []market.Bar) []market.Bar {
			scale(b[5000:], 0.5)
			return slices.Delete(b, 5000, 7880)
		}, gate.Fail, []string{gate.LargestGapMove}},
		{"half of the minutes are missing", func(b []market.Bar) []market.Bar {
			var thin []market.Bar
			for i := 0; i < len(b); i += 2 {
				thin = append(thin, b[i])
			}
			return thin
		}, gate.Inconclusive, []string{gate.FilledMinutes}},
		{"most minutes are unchanged", func(b []market.Bar) []market.Bar {
			for i := range b {
				if i%5 > 0 {
					freeze(b, i, 1)
				}
			}
			return b
		}, gate.Inconclusive, []string{gate.UnchangedMinutes}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := NewData(&market.Series{Bars: tt.spoil(slices.Clone(sim.Raw))}, "test")
			q := NewDataQuality(d.Quality)
			var rules []string
			for _, r := range q.Checks {
				if !r.Verdict.OK() {
					rules = append(rules, r.Name)
				}
			}
			if q.Verdict != tt.want || !slices.Equal(rules, tt.rules) {
				t.Errorf("got %s by %q, want %s by %q", q.Verdict, rules, tt.want, tt.rules)
			}
			var text bytes.Buffer
			if err := q.Lines(&text); err != nil {
				t.Fatal(err)
			}
			for _, rule := range tt.rules {
				if !strings.Contains(text.String(), string(tt.want)+": "+rule) {
					t.Errorf("%s is not named in:\n%s", rule, text.String())
				}
			}
		})
	}
}

// A verdict needs ten test days, intervals better than chance, and rows after the end of the training.
func TestEvaluationOfTooLittleIsInconclusive(t *testing.T) {
	data, err := Simulate(market.SimulateOptions{Seed: 9, Days: 30})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Run(t.Context(), data, Options{Versions: map[string]string{"v1.8.1": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	sound, err := s.Offline(s.Candidates[0], time.UnixMilli(data.Raw[len(data.Raw)-1].End()))
	if err != nil {
		t.Fatal(err)
	}
	if v := sound.Judge().Verdict(); v != gate.Pass {
		t.Fatalf("the sound report is %s", v)
	}
	for _, tt := range []struct {
		name  string
		spoil func(*OfflineReport)
		rules []string
	}{
		{"nine days", func(r *OfflineReport) { r.TestDays = 9 }, []string{gate.TestDays}},
		{"no intervals", func(r *OfflineReport) { r.Intervals = nil }, []string{gate.AUCLow, gate.PrecisionLift}},
		{"AUC no better than chance", func(r *OfflineReport) { r.Intervals.AUC.Low = 0.386 }, []string{gate.AUCLow}},
		{"P@20 no better than the base rate", func(r *OfflineReport) { r.Intervals.PrecisionAt20.Low = r.BaseRate - 0.01 }, []string{gate.PrecisionLift}},
		{"perhaps in sample", func(r *OfflineReport) { r.InSample = "not known" }, []string{gate.OutOfTime}},
		{"unexamined data", func(r *OfflineReport) { r.Quality = nil }, []string{gate.FrozenMinutes, gate.LongestFrozen, gate.LongestFlatRun, gate.LargestMove, gate.LargestGapMove, gate.UnchangedMinutes, gate.FilledMinutes}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, measured := *sound, *sound.Report
			intervals := *measured.Intervals
			r.Report, measured.Intervals = &measured, &intervals
			tt.spoil(&r)
			card := r.Judge()
			var rules []string
			for _, c := range card.Results {
				if !c.Verdict.OK() {
					rules = append(rules, c.Name)
				}
			}
			if card.Verdict() != gate.Inconclusive || !slices.Equal(rules, tt.rules) {
				t.Errorf("got %s by %q, want INCONCLUSIVE by %q", card.Verdict(), rules, tt.rules)
			}
			if v := r.JudgeFigures().Verdict(); v != gate.Pass {
				t.Errorf("by the rules of v1 it is %s, want PASS", v)
			}
		})
	}
}
