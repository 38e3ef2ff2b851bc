package bench

import (
	"context"
	"errors"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// The sizes at which the curves are measured.
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
	*fleet

	replicas []*process.Process
	done     int
}

// step measures all curves of one variable at one size, and returns a value for each.
type step struct {
	of      string
	sizes   []int
	measure func(ctx context.Context, size, round int) ([]float64, error)
	curves  []Curve
}

// RunScale measures how costs grow: with the rows in a batch, the rate of decisions, the calls in flight, the replicas of
// ml-engine, the symbols of executor, the features and the trees of a model.
func RunScale(ctx context.Context, opts Options) (_ *Scale, err error) {
	watch := rig.WatchMachine()
	f, err := startFleet(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s := &scaling{fleet: f}
	steps := []step{
		{"rows in a batch", batchSizes, s.rows, []Curve{{Measure: "CPU of ml-engine per row", Unit: "us"}}},
		{ofRates, rateCounts, s.rates, []Curve{
			{Measure: executorCPU, Unit: "us"}, {Measure: engineCPU, Unit: "us"}, {Measure: executorMemory, Unit: "MB"}, {Measure: engineMemory, Unit: "MB"},
		}},
		{"calls under way", callCounts, s.calls, []Curve{{Measure: "decisions, 100 % shadow", Unit: "1/s", More: true}, {Measure: "p99 of a decision", Unit: "ms"}}},
		{"replicas of ml-engine", replicaCounts, s.balanced, []Curve{
			{Measure: "predictions", Unit: "1/s", More: true}, {Measure: "CPU of all of them per prediction", Unit: "us"},
		}},
		{"symbols", symbolCounts, s.symbols, []Curve{{Measure: "CPU of executor per quote", Unit: "us"}, {Measure: "memory of executor", Unit: "MB"}}},
		{"features of a logistic model", featureCounts, s.features, []Curve{{Measure: "time of a score per feature", Unit: "ns"}}},
		{"trees of depth 6", treeCounts, s.trees, []Curve{{Measure: "time of a score per tree", Unit: "ns"}}},
	}
	total := 0
	for _, st := range steps {
		total += len(st.sizes) * opts.Rounds
	}
	result := &Scale{}
	for _, st := range steps {
		curves, err := s.run(ctx, st, total)
		if err != nil {
			return nil, err
		}
		result.Curves = append(result.Curves, curves...)
	}
	result.Capacity = result.Capacities()
	result.Header = newHeader(ScaleSchema, watch, f.Machine(watch), opts.Rounds)
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
			s.done++
			s.opts.Progress(s.done, total)
		}
	}
	for i := range st.curves {
		st.curves[i].Of = st.of
		for _, size := range st.sizes {
			st.curves[i].Points = append(st.curves[i].Points, Point{Size: size, Value: SpreadOf(values[size][i])})
		}
	}
	return st.curves, nil
}

func (s *scaling) span() span { return span{warm: s.opts.WarmUp, length: s.opts.Closed} }
