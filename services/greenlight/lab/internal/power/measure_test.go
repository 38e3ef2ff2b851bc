package power

import (
	"context"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// exact returns the probability that a run reaches a boundary within its shadows, and the number of shadows within which half
// of all runs do (0 if fewer do). It computes the probability of every number of failures, shadow after shadow, without
// sampling.
func exact(least []int, rate float64) (chance float64, median int) {
	failures := make([]float64, len(least)+1) // chance of so many failures and no abort yet
	failures[0] = 1
	most := 0 // the largest number of failures that has a chance
	for n := 1; n < len(least); n++ {
		most++
		for k := most; k > 0; k-- {
			failures[k] = failures[k]*(1-rate) + failures[k-1]*rate
		}
		failures[0] *= 1 - rate
		for ; most >= least[n]; most-- {
			chance += failures[most]
			failures[most] = 0
		}
		if median == 0 && chance >= 0.5 {
			median = n
		}
	}
	return chance, median
}

// The simulation matches the exact probabilities, up to four standard errors.
func TestMeasureAgainstTheExactChances(t *testing.T) {
	const shadows = 1200
	o := quiet(4000, shadows)
	rows, err := Measure(t.Context(), Truths(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i, truth := range Truths() {
		b, row := asked(t, truth.Kind, shadows), rows[i]
		if row.Truth != truth || row.Runs != o.Runs {
			t.Errorf("row %d: got %s, %d runs", i, row.Truth, row.Runs)
		}
		near := func(name string, got int, least []int) {
			p, _ := exact(least, truth.Rate)
			n := float64(o.Runs)
			if share := float64(got) / n; math.Abs(share-p) > 4*math.Sqrt(p*(1-p)/n)+0.5/n {
				t.Errorf("%s, %s: got %v, want %v", truth, name, share, p)
			}
		}
		near("test", row.ByTest, b.test)
		near("threshold", row.ByThreshold, b.threshold)
		near("naive", row.Naive, b.naive)

		either := make([]int, len(b.test))
		for n := range either {
			either[n] = min(b.test[n], b.threshold[n])
		}
		near("aborted", row.Aborted, either)
		chance, median := exact(either, truth.Rate)
		if chance > 0.55 && (row.Bounds == nil || math.Abs(float64(row.Median-median)) > 2*(row.Bounds.High-row.Bounds.Low)/2) {
			t.Errorf("%s: median %d %+v, want %d", truth, row.Median, row.Bounds, median)
		}
		if chance < 0.45 && (row.Median != 0 || row.Bounds != nil) {
			t.Errorf("%s: median %d %+v of runs that mostly go on", truth, row.Median, row.Bounds)
		}
	}
}

// The targets are met by the exact probabilities, whatever the seed: no more false alarms than alpha within 20,000 shadows,
// and half of the runs aborted in time.
func TestTargetsByTheExactChances(t *testing.T) {
	b := [kindEnd]*boundaries{asked(t, Mismatch, 20_000), asked(t, Failure, 20_000)}
	seen := 0
	for _, truth := range Truths() {
		least := b[truth.Kind].test
		switch truth.Target {
		case FewAlarms, FewTestAlarms:
			seen++
			chance, _ := exact(least, truth.Rate)
			naive, _ := exact(b[truth.Kind].naive, truth.Rate)
			t.Logf("%s: %.5f by a test, %.4f by the naive rule", truth, chance, naive)
			if chance > truth.Limit || naive < 10*truth.Limit {
				t.Errorf("%s: got %v by a test, %v by the naive rule; want at most %v, and far more", truth, chance, naive, truth.Limit)
			}
		case SoonAborted:
			seen++
			_, median := exact(least[:1000], truth.Rate)
			t.Logf("%s: median %d", truth, median)
			if median == 0 || float64(median) >= truth.Limit {
				t.Errorf("%s: got a median of %d, want less than %v", truth, median, truth.Limit)
			}
		case Shown:
		}
	}
	if seen != 5 {
		t.Errorf("%d targets, want 5", seen)
	}
}

func TestMeasureDoesNotDependOnTheCores(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(cores)
	var rows [2][]Row
	for i, n := range []int{1, max(2, cores)} {
		runtime.GOMAXPROCS(n)
		var err error
		if rows[i], err = Measure(t.Context(), Truths(), quiet(51, 300)); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(rows[0], rows[1]) {
		t.Errorf("on one core %+v\non more   %+v", rows[0], rows[1])
	}
}

func TestMeasureTellsItsProgress(t *testing.T) {
	o := quiet(70, 10)
	var told []int
	o.Progress = func(done, total int) {
		if total != 70*len(Truths()) {
			t.Errorf("total: got %d", total)
		}
		told = append(told, done)
	}
	if _, err := Measure(t.Context(), Truths(), o); err != nil {
		t.Fatal(err)
	}
	if want := []int{100, 200, 300, 400, 420}; !reflect.DeepEqual(told, want) {
		t.Errorf("got %v, want %v", told, want)
	}
}

func TestMeasureEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := quiet(100_000, 10)
	o.Progress = func(int, int) { cancel() }
	if _, err := Measure(ctx, Truths(), o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestNewRow(t *testing.T) {
	tests := []struct {
		name string
		ends []end
		want Row
	}{
		{"one run that goes on", []end{{never, never, 50}}, Row{Runs: 1, Naive: 1}},
		{"the first rule counts", []end{{7, 500, never}}, Row{Runs: 1, Aborted: 1, ByTest: 1, ByThreshold: 1, Median: 7}},
		{"half", []end{{9, never, never}, {never, never, never}}, Row{Runs: 2, Aborted: 1, ByTest: 1, Median: 9}},
		{"fewer than half", []end{{9, never, never}, {never, never, never}, {never, never, never}}, Row{Runs: 3, Aborted: 1, ByTest: 1}},
		{"three", []end{{9, never, never}, {never, 500, never}, {20, never, never}}, Row{Runs: 3, Aborted: 3, ByTest: 2, ByThreshold: 1, Median: 20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := newRow(Truth{}, tt.ends); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	// Of 100 coin tosses, 40 to 60 are heads with probability 0.965, and 41 to 59 with 0.943: the 95 % interval of the median
	// is from the 40th to the 61st.
	for heads, want := range map[uint64]float64{40: 0.965, 41: 0.943} {
		if got := stats.BinomialAtLeast(heads, 100, 0.5) - stats.BinomialAtLeast(101-heads, 100, 0.5); math.Abs(got-want) > 5e-4 {
			t.Errorf("%d to %d heads: chance %v, want %v", heads, 100-heads, got, want)
		}
	}
	hundred := make([]end, 100)
	for i := range hundred {
		hundred[i] = end{i + 1, never, never}
	}
	if got := newRow(Truth{}, hundred); got.Median != 50 || got.Bounds == nil || got.Bounds.Low != 40 || got.Bounds.High != 61 {
		t.Errorf("median of 1 to 100: got %d, %+v, want 50, 40 to 61", got.Median, got.Bounds)
	}
}
