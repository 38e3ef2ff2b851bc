package power

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Options of a measurement. All fields are required.
type Options struct {
	// Policy has the rules.
	Policy gate.Policy
	// Runs of every row, each of so many Shadows unless it is aborted before; both at least 1.
	Runs, Shadows int
	// Seed of the draws.
	Seed uint64
	// Progress is told how many runs of how many are done, by one goroutine at a time.
	Progress func(done, total int)
}

// Row is what the rules made of the runs of one truth. They look after every shadow: no canary looks more often, so that
// none has more false alarms.
type Row struct {
	Truth Truth
	Runs  int
	// Aborted is how many runs were aborted, ByTest and ByThreshold how many a test or a threshold would have aborted had
	// it been alone, and Naive how many the naive rule.
	Aborted, ByTest, ByThreshold, Naive int
	// Median is the number of shadows within which half of the runs were aborted; 0 when fewer were. Bounds is its 95 %
	// interval, nil when there is none.
	Median int
	Bounds *gate.Bounds
}

// Measure simulates the runs of each truth, on all cores. The result does not depend on how many there are.
func Measure(ctx context.Context, truths []Truth, o Options) ([]Row, error) {
	kinds, err := allBoundaries(ctx, o)
	if err != nil {
		return nil, err
	}
	var mutex sync.Mutex
	done, total := 0, o.Runs*len(truths)
	ran := func() {
		mutex.Lock()
		defer mutex.Unlock()
		if done++; done%100 == 0 || done == total {
			o.Progress(done, total)
		}
	}
	ends := make([][]end, len(truths))
	for i := range ends {
		ends[i] = make([]end, o.Runs)
	}
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		group.Go(func() error {
			for i, t := range truths {
				for run := worker; run < o.Runs && ctx.Err() == nil; run += workers {
					ends[i][run] = kinds[t.Kind].run(t.Rate, o.Shadows, rand.New(rand.NewPCG(o.Seed, uint64(i)<<32|uint64(run))))
					ran()
				}
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	rows := make([]Row, len(truths))
	for i, t := range truths {
		rows[i] = newRow(t, ends[i])
	}
	return rows, nil
}

// allBoundaries are those of every kind.
func allBoundaries(ctx context.Context, o Options) (all [kindEnd]*boundaries, err error) {
	group, ctx := errgroup.WithContext(ctx)
	for kind := range kindEnd {
		group.Go(func() (err error) {
			all[kind], err = newBoundaries(ctx, o.Policy, kind, o.Shadows)
			return err
		})
	}
	err = group.Wait()
	return all, err
}

// end is after how many shadows each rule aborted a run; never if it did not.
type end struct {
	test, threshold, naive int
}

// run draws shadows until every rule has aborted, or there are enough.
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
