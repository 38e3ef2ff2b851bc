package retrain

import (
	"context"
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

const (
	// testDays is the length of the short test: the test of a fold, which is also the window of ml-engine's drift. The last
	// fold may have a shorter test, as in the evaluation. With fewer than 5 days its verdict is INCONCLUSIVE.
	testDays = 7
	// longDays is the length of the long test, which a promotion requires. Shorter tests are skipped.
	longDays = 28
)

// Holdout is the drift from the training days of each fold to its test days, by length of the test.
type Holdout struct {
	Windows []HoldoutWindow `json:"windows"`
	// Newest is the drift in the test of the newest fold, by feature. The figures show it.
	Newest *drift.Snapshot `json:"newest"`
}

// HoldoutWindow is the drift in tests of one length.
type HoldoutWindow struct {
	Days int `json:"days"`
	// Folds is the number of folds with such a test. Sets is empty if there is none.
	Folds int          `json:"folds"`
	Sets  []HoldoutSet `json:"sets"`
}

// HoldoutSet is one set of features: "raw" (mid, spread_bp, vol1m, rsi14), or a schema without its constant.
type HoldoutSet struct {
	Set string `json:"set"`
	// Overall is the median over folds of the mean over the features.
	Overall HoldoutMedian `json:"overall"`
	// Stable is the share of folds with an overall PSI below the promotion threshold, in [0,1].
	Stable   float64                `json:"share_below_threshold"`
	Verdicts map[gate.Verdict]int   `json:"verdicts"`
	Features []HoldoutFeatureMedian `json:"features"`
}

// HoldoutMedian has medians over folds: of the PSI, and of its 99 % quantile without drift.
type HoldoutMedian struct {
	PSI float64 `json:"psi_median"`
	Q99 float64 `json:"null_q99_median"`
}

// HoldoutFeatureMedian has the medians of one feature.
type HoldoutFeatureMedian struct {
	Feature string `json:"feature"`
	HoldoutMedian
}

// MeasureHoldout measures the drift of every fold against the rows that the fold was trained on. progress, which may be
// nil, is called with the number of completed folds.
func MeasureHoldout(ctx context.Context, p *Population, folds []train.Fold, progress func(done, total int)) (*Holdout, error) {
	sets, err := p.sets()
	if err != nil {
		return nil, err
	}
	lengths := []int{testDays, longDays}
	readings := make(map[int][][]*drift.Snapshot) // snapshots of the folds, by days and set
	for _, days := range lengths {
		readings[days] = make([][]*drift.Snapshot, len(sets))
	}
	h := &Holdout{Windows: []HoldoutWindow{}}
	for i, fold := range folds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if progress != nil {
			progress(i, len(folds))
		}
		from, to := p.Rows.From(fold.TrainFrom), p.Rows.From(fold.TrainTo)-train.DefaultSplit().Purge
		for _, days := range lengths {
			testFrom, testTo := p.test(fold.Window, days)
			if testFrom == testTo {
				continue
			}
			for s, set := range sets {
				snapshot, err := p.measure(set.Names(), from, to, testFrom, testTo)
				if err != nil {
					return nil, fmt.Errorf("drift of %s in fold %d: %w", set.Name, i+1, err)
				}
				readings[days][s] = append(readings[days][s], snapshot)
			}
			if days == testDays && i == len(folds)-1 {
				if h.Newest, err = p.measure(p.Features(), from, to, testFrom, testTo); err != nil {
					return nil, fmt.Errorf("drift in fold %d: %w", i+1, err)
				}
			}
		}
	}
	for _, days := range lengths {
		w := HoldoutWindow{Days: days, Folds: len(readings[days][0]), Sets: []HoldoutSet{}}
		for s, set := range sets {
			if w.Folds > 0 {
				w.Sets = append(w.Sets, newHoldoutSet(set.Name, readings[days][s]))
			}
		}
		h.Windows = append(h.Windows, w)
	}
	if progress != nil {
		progress(len(folds), len(folds))
	}
	return h, nil
}

// sets returns the sets of the report: the raw inputs, v1.8, v1.8.1, and the candidate's schema if it is another one.
func (p *Population) sets() ([]*feature.Schema, error) {
	raw, err := feature.NewSchema("raw", feature.RawInputs()...)
	if err != nil {
		return nil, err
	}
	sets := []*feature.Schema{raw}
	schemas := train.DefaultOptions().Also
	if !slices.ContainsFunc(schemas, func(s *feature.Schema) bool { return s.Name == p.Candidate.Name }) {
		schemas = append(slices.Clone(schemas), p.Candidate)
	}
	for _, s := range schemas {
		names := slices.DeleteFunc(s.Names(), func(name string) bool { return name == feature.Bias })
		set, err := feature.NewSchema(s.Name, names...)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// test returns the rows of the days after the training of a fold, or an empty range if there are too few days.
func (p *Population) test(w train.Window, days int) (from, to int) {
	from = p.Rows.From(w.TestFrom)
	if days == testDays {
		return from, p.Rows.From(w.TestTo)
	}
	first, _ := slices.BinarySearch(p.Days, w.TestFrom)
	if first+days > len(p.Days) || p.Days[first+days-1]-w.TestFrom >= train.Calendar(days) { // too few days, or a hole between them
		return from, from
	}
	return from, p.Rows.From(p.Days[first+days-1] + 1)
}

// measure measures the drift of the named features from rows [from, to) to rows [testFrom, testTo).
func (p *Population) measure(names []string, from, to, testFrom, testTo int) (*drift.Snapshot, error) {
	columns := make([]drift.Column, len(names))
	test := make([][]float64, len(names))
	for j, name := range names {
		columns[j] = drift.Column{Name: name, Values: p.column(name, from, to)}
		test[j] = p.column(name, testFrom, testTo)
	}
	profile, err := drift.NewProfile(columns, p.Rows.Day[from:to])
	if err != nil {
		return nil, err
	}
	counts := drift.NewCounts(profile)
	x := make([]float64, len(names))
	for i := range testTo - testFrom {
		for j := range test {
			x[j] = test[j][i]
		}
		counts.Observe(p.Rows.Day[testFrom+i], x)
	}
	return profile.Snapshot(counts, drift.NewNulls(profile, replicates, seed), drift.DefaultLimits())
}

// newHoldoutSet takes the medians over the folds. There must be at least one fold.
func newHoldoutSet(name string, folds []*drift.Snapshot) HoldoutSet {
	set := HoldoutSet{Set: name, Verdicts: map[gate.Verdict]int{}}
	overall := make([]drift.Reading, 0, len(folds))
	for _, f := range folds {
		overall = append(overall, f.Overall)
		set.Verdicts[f.Overall.Verdict]++
		if f.Overall.PSI < f.Overall.Threshold {
			set.Stable += 1 / float64(len(folds))
		}
	}
	set.Overall = medianOf(overall)
	for j, f := range folds[0].Features {
		readings := make([]drift.Reading, 0, len(folds))
		for _, fold := range folds {
			readings = append(readings, fold.Features[j].Reading)
		}
		set.Features = append(set.Features, HoldoutFeatureMedian{f.Feature, medianOf(readings)})
	}
	return set
}

func medianOf(readings []drift.Reading) HoldoutMedian {
	var psi, q99 []float64
	for _, r := range readings {
		psi, q99 = append(psi, r.PSI), append(q99, r.Q99)
	}
	slices.Sort(psi)
	slices.Sort(q99)
	return HoldoutMedian{PSI: stats.Quantile(psi, 0.5), Q99: stats.Quantile(q99, 0.5)}
}

// Window returns the window of the given length, if any fold has it.
func (h *Holdout) Window(days int) (HoldoutWindow, bool) {
	i := slices.IndexFunc(h.Windows, func(w HoldoutWindow) bool { return w.Days == days && w.Folds > 0 })
	if i < 0 {
		return HoldoutWindow{}, false
	}
	return h.Windows[i], true
}

// Feature returns the medians of the feature, from the first set that has it.
func (w HoldoutWindow) Feature(name string) (HoldoutMedian, bool) {
	for _, s := range w.Sets {
		for _, f := range s.Features {
			if f.Feature == name {
				return f.HoldoutMedian, true
			}
		}
	}
	return HoldoutMedian{}, false
}
