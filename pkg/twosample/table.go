package twosample

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// table holds the rows of both sides by day: the test deals and exchanges whole days.
type table struct {
	names []string
	days  []day
}

// day holds the rows of one day of one side, one after the other.
type day struct {
	present bool
	number  int
	width   int
	x       []float64
}

func (d *day) rows() int { return len(d.x) / d.width }

// add takes the complete rows of a sample, thinned evenly to at most maxRows, and returns how many rows were
// incomplete.
func (t *table) add(s Sample, width int, present bool, maxRows int) (incomplete int, err error) {
	if width == 0 || len(s.X) != len(s.Days)*width {
		return 0, fmt.Errorf("%w: %d values in %d rows of %d features", errShape, len(s.X), len(s.Days), width)
	}
	var complete []int
	for i := range s.Days {
		if slices.ContainsFunc(s.X[i*width:(i+1)*width], func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }) {
			incomplete++
		} else {
			complete = append(complete, i)
		}
	}
	slices.SortStableFunc(complete, func(a, b int) int { return s.Days[a] - s.Days[b] })
	kept := min(maxRows, len(complete))
	for at := range kept {
		i := complete[at*len(complete)/kept]
		if n := len(t.days); n == 0 || t.days[n-1].present != present || t.days[n-1].number != s.Days[i] {
			t.days = append(t.days, day{present: present, number: s.Days[i]})
		}
		d := &t.days[len(t.days)-1]
		d.width = width
		d.x = append(d.x, s.X[i*width:(i+1)*width]...)
	}
	return incomplete, nil
}

// clip bounds, in standard deviations, the effect of one extreme value on squares and products.
const clip = 5

// expand standardises the features over both sides and adds squares and products.
func (t *table) expand(features []string) {
	k, n := len(features), 0.0
	mean, sd := make([]float64, k), make([]float64, k)
	each := func(visit func(j int, v float64)) {
		for _, d := range t.days {
			for i, v := range d.x {
				visit(i%k, v)
			}
		}
	}
	for i := range t.days {
		n += float64(t.days[i].rows())
	}
	each(func(j int, v float64) { mean[j] += v / n })
	each(func(j int, v float64) { sd[j] += (v - mean[j]) * (v - mean[j]) / n })
	for j := range sd {
		if sd[j] = math.Sqrt(sd[j]); sd[j] == 0 {
			sd[j] = 1
		}
	}
	t.names = slices.Clone(features)
	for a := range k {
		for b := a; b < k; b++ {
			name := features[a] + "*" + features[b]
			if a == b {
				name = features[a] + "^2"
			}
			t.names = append(t.names, name)
		}
	}
	z := make([]float64, k)
	for i := range t.days {
		d := &t.days[i]
		wide := make([]float64, 0, d.rows()*len(t.names))
		for row := range slices.Chunk(d.x, k) {
			for j, v := range row {
				z[j] = max(-clip, min(clip, (v-mean[j])/sd[j]))
			}
			wide = append(wide, z...)
			for a := range k {
				for b := a; b < k; b++ {
					wide = append(wide, z[a]*z[b])
				}
			}
		}
		d.x, d.width = wide, len(t.names)
	}
}

// auc returns the AUC over the rows of all days, each scored by a classifier that has not seen its day, with the given
// labels of the days. The days of each label are dealt in turn, so that every part has both labels.
func (t *table) auc(labels []bool, folds int) (float64, error) {
	fold := make([]int, len(t.days))
	var dealt [2]int
	for d, present := range labels {
		side := 0
		if present {
			side = 1
		}
		fold[d] = dealt[side] % folds
		dealt[side]++
	}
	var scores []float64
	var truth []bool
	for f := range folds {
		var x []float64
		var y []bool
		for d := range t.days {
			if fold[d] != f {
				x = append(x, t.days[d].x...)
				y = append(y, slices.Repeat([]bool{labels[d]}, t.days[d].rows())...)
			}
		}
		m, err := train.Fit(t.names, x, y, fitOptions())
		if errors.Is(err, eval.ErrOneClass) {
			continue // too few days: the part lacks one label, so its days are not scored
		}
		if err != nil {
			return 0, fmt.Errorf("domain classifier: %w", err)
		}
		for d := range t.days {
			if fold[d] != f {
				continue
			}
			for row := range slices.Chunk(t.days[d].x, len(t.names)) {
				scores = append(scores, m.Score(row))
				truth = append(truth, labels[d])
			}
		}
	}
	return eval.AUC(scores, truth), nil
}

// aucs returns the AUCs of several labelings, computed on all cores.
func (t *table) aucs(labels [][]bool, folds int) ([]float64, error) {
	aucs := make([]float64, len(labels))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range labels {
		group.Go(func() (err error) {
			aucs[i], err = t.auc(labels[i], folds)
			return err
		})
	}
	return aucs, group.Wait()
}
