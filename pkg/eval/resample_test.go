package eval_test

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// replicates resamples row by row, which is the definition: it draws days from the documented stream, writes the drawn
// rows of both scorers out, and measures them.
func replicates(t *testing.T, b eval.Bootstrap, model, baseline eval.Sample, measure func(model, baseline eval.Sample) []float64) [][]float64 {
	t.Helper()
	days := slices.Compact(slices.Sorted(slices.Values(model.Days)))
	rng := rand.New(rand.NewPCG(b.Seed, 0))
	var all [][]float64
	for len(all) < b.Replicates {
		var m, o eval.Sample
		for range days {
			day := days[rng.IntN(len(days))]
			for i, d := range model.Days {
				if d == day {
					m.Scores, o.Scores = append(m.Scores, model.Scores[i]), append(o.Scores, baseline.Scores[i])
					m.Labels = append(m.Labels, model.Labels[i])
				}
			}
		}
		o.Labels = m.Labels
		if slices.Contains(m.Labels, true) && slices.Contains(m.Labels, false) {
			all = append(all, measure(m, o))
		}
	}
	return all
}

func percentiles(all [][]float64, column int, level float64) eval.Interval {
	var v []float64
	for _, r := range all {
		v = append(v, r[column])
	}
	slices.Sort(v)
	return eval.Interval{Low: stats.Quantile(v, (1-level)/2), High: stats.Quantile(v, 1-(1-level)/2)}
}

// allPairs is the AUC by its definition.
func allPairs(s eval.Sample) float64 {
	var right, pairs float64
	for i, p := range s.Scores {
		for j, n := range s.Scores {
			if s.Labels[i] && !s.Labels[j] {
				pairs++
				switch {
				case p > n:
					right++
				case p == n:
					right += 0.5
				}
			}
		}
	}
	return right / pairs
}

// topFifth returns the expected number of positives among the best fifth, and its size.
func topFifth(s eval.Sample) (top, k float64) {
	k = float64((len(s.Scores) + 4) / 5)
	sorted := slices.Clone(s.Scores)
	slices.Sort(sorted)
	cut := sorted[len(sorted)-int(k)]
	var above, tied, tiedPositives float64
	for i, v := range s.Scores {
		switch {
		case v > cut:
			above++
			if s.Labels[i] {
				top++
			}
		case v == cut:
			tied++
			if s.Labels[i] {
				tiedPositives++
			}
		}
	}
	return top + tiedPositives*((k-above)/tied), k
}

// The intervals equal those from resampling row by row, bit for bit where the sums are integers, on any number of
// cores.
func TestResamplingRowByRow(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, tt := range []struct {
		name                   string
		days, perDay, distinct int
	}{
		{"few days, no ties", 5, 120, 1 << 30},
		{"few days, ties", 6, 90, 12},
		{"two scores", 5, 60, 2},
		{"all tied", 5, 30, 1},
		{"more days than a part of the table", 66, 20, 40},
		{"few rows a day", 150, 3, 40},
		{"a row a day, one class often", 12, 1, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			model := clustered(7, tt.days, tt.perDay)
			baseline := model
			model.Scores, _ = draw(8, model.Len(), tt.distinct)
			baseline.Scores, _ = draw(9, model.Len(), tt.distinct)
			for i := range model.Days { // days that are neither in order nor of the same length
				if i%7 == 3 {
					model.Days[i] = model.Days[(i*5)%len(model.Days)]
				}
			}
			b := eval.Bootstrap{Replicates: 20, Seed: 3, Level: 0.8, MinDays: 2}
			all := replicates(t, b, model, baseline, func(m, o eval.Sample) []float64 {
				top, k := topFifth(m)
				theirs, _ := topFifth(o)
				pos := 0.0
				for _, y := range m.Labels {
					if y {
						pos++
					}
				}
				auc := allPairs(m)
				return []float64{
					auc, top / k, top / pos, pos / float64(m.Len()), eval.Brier(m.Scores, m.Labels), eval.LogLoss(m.Scores, m.Labels),
					auc - allPairs(o), top/k - theirs/k,
				}
			})
			for _, cores := range []int{1, 3, 16} {
				runtime.GOMAXPROCS(cores)
				got, err := b.Intervals(model)
				if err != nil {
					t.Fatal(err)
				}
				exact := []eval.Interval{got.AUC, got.PrecisionAt20, got.RecallAt20, got.BaseRate}
				for column, interval := range exact {
					if want := percentiles(all, column, b.Level); interval != want {
						t.Errorf("%d cores, column %d: got %v, want %v", cores, column, interval, want)
					}
				}
				for column, interval := range map[int]eval.Interval{4: got.Brier, 5: got.LogLoss} {
					if want := percentiles(all, column, b.Level); !same(interval.Low, want.Low) || !same(interval.High, want.High) {
						t.Errorf("%d cores, column %d: got %v, want %v", cores, column, interval, want)
					}
				}
				c, err := eval.Compare(model, baseline, b)
				if err != nil {
					t.Fatal(err)
				}
				want := []eval.Interval{percentiles(all, 6, b.Level), percentiles(all, 7, b.Level)}
				if differences := []eval.Interval{*c.AUC.Interval, *c.PrecisionAt20.Interval}; !reflect.DeepEqual(differences, want) {
					t.Errorf("%d cores, differences: got %v, want %v", cores, differences, want)
				}
			}
		})
	}
}
