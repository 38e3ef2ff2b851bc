package power

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Options configure a measurement. All fields are required.
type Options struct {
	// Policy holds the rules.
	Policy gate.Policy
	// Runs is the number of runs per row, Shadows the length of a run that is not aborted; both at least 1.
	Runs, Shadows int
	// Seed is the seed of the draws.
	Seed uint64
	// Progress is called with the number of runs done and the total, by one goroutine at a time.
	Progress func(done, total int)
}

// Row holds the verdicts of the rules on the runs of one truth. The rules are evaluated after every shadow. No canary
// evaluates them more often, so none has more false alarms.
type Row struct {
	Truth Truth
	Runs  int
	// Aborted is the number of aborted runs. ByTest, ByThreshold and Naive are the numbers that only the tests, only the
	// thresholds, and only the naive rule would have aborted.
	Aborted, ByTest, ByThreshold, Naive int
	// Median is the number of shadows within which half of the runs were aborted; 0 if fewer were. Bounds is its 95 %
	// interval; nil if there is none.
	Median int
	Bounds *gate.Bounds
}

// Measure simulates the runs of each truth on all cores. The result does not depend on the number of cores.
func Measure(ctx context.Context, truths []Truth, o Options) ([]Row, error) {
	cores := runtime.GOMAXPROCS(0)
	var kinds [kindEnd]*boundaries
	all := rig.Trials{N: len(kinds), AtOnce: cores, Progress: func(int, int) {}, Every: 1}
	err := all.Run(ctx, func(kind int) (err error) {
		kinds[kind], err = newBoundaries(ctx, o.Policy, Kind(kind), o.Shadows)
		return err
	})
	if err != nil {
		return nil, err
	}
	ends := make([]end, len(truths)*o.Runs)
	all = rig.Trials{N: len(ends), AtOnce: cores, Progress: o.Progress, Every: 100}
	err = all.Run(ctx, func(trial int) error {
		i, run := trial/o.Runs, trial%o.Runs
		ends[trial] = kinds[truths[i].Kind].run(truths[i].Rate, o.Shadows, rand.New(rand.NewPCG(o.Seed, uint64(i)<<32|uint64(run))))
		return nil
	})
	if err != nil {
		return nil, err
	}
	var rows []Row
	for i, t := range truths {
		rows = append(rows, newRow(t, ends[i*o.Runs:(i+1)*o.Runs]))
	}
	return rows, nil
}

// end holds the number of shadows after which each rule aborted a run; never if it did not.
type end struct {
	test, threshold, naive int
}

// run draws shadows until every rule has aborted, or the run is over.
func (b *boundaries) run(rate float64, shadows int, rng *rand.Rand) end {
	e := end{never, never, never}
	failures := 0
	for n := 1; n <= shadows && max(e.test, e.threshold, e.naive) == never; n++ {
		if rng.Float64() < rate {
			failures++
		}
		if e.test == never && failures >= b.test[n] {
			e.test = n
		}
		if e.threshold == never && failures >= b.threshold[n] {
			e.threshold = n
		}
		if e.naive == never && failures >= b.naive[n] {
			e.naive = n
		}
	}
	return e
}

func newRow(t Truth, ends []end) Row {
	row := Row{Truth: t, Runs: len(ends)}
	first := make([]int, len(ends))
	add := func(count *int, n int) {
		if n != never {
			*count++
		}
	}
	for i, e := range ends {
		first[i] = min(e.test, e.threshold)
		add(&row.Aborted, first[i])
		add(&row.ByTest, e.test)
		add(&row.ByThreshold, e.threshold)
		add(&row.Naive, e.naive)
	}
	slices.Sort(first)
	if half := first[(len(first)-1)/2]; half != never {
		row.Median = half
	}
	// How many runs are below the true median is binomial: the interval is from one order statistic to another.
	n := float64(len(first))
	low, high := int(n/2-stats.Z95*math.Sqrt(n)/2)-1, int(math.Ceil(n/2+stats.Z95*math.Sqrt(n)/2))
	if low >= 0 && high < len(first) && first[high] != never {
		row.Bounds = &gate.Bounds{Low: float64(first[low]), High: float64(first[high])}
	}
	return row
}
