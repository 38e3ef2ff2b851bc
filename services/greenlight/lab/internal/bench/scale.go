package bench

import (
	"context"
	"errors"
	"time"
)

// sizes at which the curves are measured.
var (
	batchSizes    = []int{1, 4, 16, 64, 256, 1024}
	rateCounts    = []int{250, 1000, 2500, 5000}
	callCounts    = []int{1, 4, 16, 64, 256, 1000, 5000}
	replicaCounts = []int{1, 2, 3, 4}
	symbolCounts  = []int{1, 10, 100, 1000, 10_000}
	featureCounts = []int{7, 30, 100, 300, 1000}
	treeCounts    = []int{10, 30, 100, 300, 1000, 2000}
)

// scaling is a measurement of curves in progress.
type scaling struct {
	opts     Options
	fleet    *fleet
	replicas []*side
	done     int
}

// step measures all curves of one growing thing at one size, and returns a value for each.
type step struct {
	curves  []Curve
	sizes   []int
	measure func(ctx context.Context, size, round int) ([]float64, error)
}

// RunScale measures how costs grow: with the rows in a batch, the rate of decisions, the calls in flight, the replicas of
// ml-engine, the symbols of executor, the features and the trees of a model.
func RunScale(ctx context.Context, opts Options) (_ *Scale, err error) {
	if opts.Rounds < 1 || opts.Closed <= 0 || opts.Open <= 0 || len(opts.States) == 0 {
		return nil, errors.New("bench: rounds, length of the loops and states are required")
	}
	began, watch := time.Now(), WatchMachine()
	f, err := startFleet(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	s := &scaling{opts: opts, fleet: f}
	steps := []step{
		{curves: []Curve{{Of: "rows in a batch", Measure: "CPU of ml-engine per row", Unit: "us"}}, sizes: batchSizes, measure: s.rows},
		{
			curves: []Curve{
				{Of: ofRates, Measure: executorCPU, Unit: "us"},
				{Of: ofRates, Measure: engineCPU, Unit: "us"},
				{Of: ofRates, Measure: executorMemory, Unit: "MB"},
				{Of: ofRates, Measure: engineMemory, Unit: "MB"},
			}, sizes: rateCounts, measure: s.rates,
		},
		{
			curves: []Curve{
				{Of: "calls under way", Measure: "decisions, 100 % shadow", Unit: "1/s", More: true},
				{Of: "calls under way", Measure: "p99 of a decision", Unit: "ms"},
			}, sizes: callCounts, measure: s.calls,
		},
		{
			curves: []Curve{
				{Of: "replicas of ml-engine", Measure: "predictions", Unit: "1/s", More: true},
				{Of: "replicas of ml-engine", Measure: "CPU of all of them per prediction", Unit: "us"},
			}, sizes: replicaCounts, measure: s.balanced,
		},
		{
			curves: []Curve{
				{Of: "symbols", Measure: "CPU of executor per quote", Unit: "us"},
				{Of: "symbols", Measure: "memory of executor", Unit: "MB"},
			}, sizes: symbolCounts, measure: s.symbols,
		},
		{curves: []Curve{{Of: "features of a logistic model", Measure: "time of a score per feature", Unit: "ns"}}, sizes: featureCounts, measure: s.features},
		{curves: []Curve{{Of: "trees of depth 6", Measure: "time of a score per tree", Unit: "ns"}}, sizes: treeCounts, measure: s.trees},
	}
	total := 0
	for _, st := range steps {
		total += len(st.sizes) * opts.Rounds
	}
	result := &Scale{Schema: ScaleSchema, Rounds: opts.Rounds}
	for _, st := range steps {
		curves, err := s.run(ctx, st, total)
		if err != nil {
			return nil, err
		}
		result.Curves = append(result.Curves, curves...)
	}
	result.Capacity = result.Capacities()
	result.Machine = f.machine(watch)
	result.Time, result.DurationS = began.UTC(), time.Since(began).Seconds()
	return result, nil
}

// run measures all sizes, round by round.
func (s *scaling) run(ctx context.Context, st step, total int) ([]Curve, error) {
	values := make(map[int][][]float64) // by size, by curve
	for round := range s.opts.Rounds {
		for _, size := range st.sizes {
			got, err := st.measure(ctx, size, round)
			if err != nil {
				return nil, err
			}
			if values[size] == nil {
				values[size] = make([][]float64, len(st.curves))
			}
			for i, v := range got {
				values[size][i] = append(values[size][i], v)
			}
			if s.done++; s.opts.Progress != nil {
				s.opts.Progress(s.done, total)
			}
		}
	}
	for _, size := range st.sizes {
		for i := range st.curves {
			st.curves[i].Points = append(st.curves[i].Points, Point{Size: size, Value: SpreadOf(values[size][i])})
		}
	}
	return st.curves, nil
}

func (s *scaling) span() span { return span{warm: s.opts.WarmUp, length: s.opts.Closed} }
