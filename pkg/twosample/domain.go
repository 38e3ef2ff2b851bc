// Package twosample asks whether a classifier can tell the rows of the present from those of the reference. The index of
// [drift] looks at one feature at a time; two features that move together in a new way leave every one of its bins alone.
//
// It is the classifier two-sample test: D. Lopez-Paz and M. Oquab (2017), "Revisiting classifier two-sample tests", ICLR.
// The classifier is logistic, over the features, their squares and their products, so that it sees means, spreads and
// correlations; it is judged on days that it was not fitted to, and against itself with the days' labels exchanged, since
// minutes of one day are not independent and days nearly are.
package twosample

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// Sample is rows of one side.
type Sample struct {
	// X are the rows, one after the other, one value per feature. Rows with a value that is not finite are left out.
	X []float64
	// Days are the UTC days of the rows.
	Days []int
}

// Options of [Classify].
type Options struct {
	// MaxRows is how many rows of a side are looked at, an even thinning of all. Days count, not rows.
	MaxRows int
	// Permutations is how often the labels of the days are exchanged at most: it ends before, when so many AUCs have
	// reached that of the true labels that the p-value is above 0.05 whatever comes.
	Permutations int
	// Folds is into how many parts the days are dealt.
	Folds int
	// Seed of the exchanges.
	Seed uint64
	// MinDays is how many days of each side it takes to judge.
	MinDays int
}

// DefaultOptions are 2,000 rows a side, 200 permutations, 4 folds and at least 5 days: some seconds on two cores where
// something has changed, and a few tenths of that where nothing has.
func DefaultOptions() Options {
	return Options{MaxRows: 2000, Permutations: 200, Folds: 4, Seed: 1, MinDays: 5}
}

// The verdict: a FAIL takes a shift that is hardly chance and that is large enough to matter. An AUC of 0.6 is what a
// shift of one feature by 0.36 of its standard deviation gives (Phi(0.36/sqrt 2)).
const (
	significant = 0.01
	doubtful    = 0.05
	relevantAUC = 0.6
)

// Result is what the classifier found.
type Result struct {
	// AUC is the chance that a row of the present scores above one of the reference, out of fold: 0.5 when they are alike.
	AUC float64 `json:"auc"`
	// P is how often the exchanged days give such an AUC, in (0,1], and Permutations how many exchanges it took to tell.
	P            float64 `json:"p_value"`
	Permutations int     `json:"permutations"`
	// Rows and days that were looked at, and rows that were left out for a missing value.
	ReferenceRows int `json:"reference_rows"`
	ReferenceDays int `json:"reference_days"`
	Rows          int `json:"rows"`
	Days          int `json:"days"`
	Incomplete    int `json:"incomplete"`
	// LeansOn are the inputs that the classifier weighs most, of all rows, the heaviest first.
	LeansOn []Weight     `json:"leans_on"`
	Verdict gate.Verdict `json:"verdict"`
	// Reason says why the verdict is not PASS.
	Reason string `json:"reason"`
}

// Weight is how much an input counts.
type Weight struct {
	// Input is a feature, its square ("a^2") or a product ("a*b").
	Input string `json:"input"`
	// Weight is per standard deviation of the input, in log odds; Share is |Weight| among those of all inputs, in [0,1].
	Weight float64 `json:"weight"`
	Share  float64 `json:"share"`
}

// leansOn is how many weights are reported.
const leansOn = 8

// Classify compares the present with the reference, of the same named features. Too few days are INCONCLUSIVE, with the
// counts; it fails when rows and features do not fit.
func Classify(features []string, reference, present Sample, o Options) (*Result, error) {
	if o.MaxRows < 1 || o.Permutations < 1 || o.Folds < 2 {
		return nil, fmt.Errorf("%d rows, %d permutations, %d folds: want at least 1, 1 and 2", o.MaxRows, o.Permutations, o.Folds)
	}
	r := &Result{LeansOn: []Weight{}}
	var t table
	for side, s := range []Sample{reference, present} {
		left, err := t.add(s, len(features), side == 1, o.MaxRows)
		if err != nil {
			return nil, err
		}
		r.Incomplete += left
	}
	r.count(&t)
	if r.ReferenceDays < o.MinDays || r.Days < o.MinDays {
		r.Verdict = gate.Inconclusive
		r.Reason = fmt.Sprintf("%d days of reference and %d of the present, %d of each needed", r.ReferenceDays, r.Days, o.MinDays)
		return r, nil
	}
	t.expand(features)
	if err := r.test(&t, o); err != nil {
		return nil, err
	}
	if err := r.lean(&t); err != nil {
		return nil, err
	}
	r.Verdict, r.Reason = r.Judge()
	return r, nil
}

func (r *Result) count(t *table) {
	for _, d := range t.days {
		if d.present {
			r.Days++
			r.Rows += d.rows()
		} else {
			r.ReferenceDays++
			r.ReferenceRows += d.rows()
		}
	}
}

// round is how many exchanges are made before their AUCs are looked at, one after the other: what is found does not
// depend on it.
const round = 8

// test computes the AUC and its p-value, on all cores. Where nothing has changed, a few exchanges in which the AUC is
// reached tell as much as all of them: J. Besag and P. Clifford (1991), "Sequential Monte Carlo p-values", Biometrika 78.
func (r *Result) test(t *table, o Options) error {
	labels := make([]bool, len(t.days))
	for d := range t.days {
		labels[d] = t.days[d].present
	}
	auc, err := t.auc(labels, o.Folds)
	if err != nil {
		return err
	}
	r.AUC = auc
	enough := int(doubtful*float64(o.Permutations)) + 1 // of all would be a p-value above doubtful
	reached, rng := 0, rand.New(rand.NewPCG(o.Seed, 0))
	for made := 0; made < o.Permutations; made += round {
		exchanged := make([][]bool, min(round, o.Permutations-made))
		for i := range exchanged {
			rng.Shuffle(len(labels), func(a, b int) { labels[a], labels[b] = labels[b], labels[a] })
			exchanged[i] = slices.Clone(labels)
		}
		aucs, err := t.aucs(exchanged, o.Folds)
		if err != nil {
			return err
		}
		for i, a := range aucs {
			if !(a >= r.AUC) {
				continue
			}
			if reached++; reached == enough {
				r.Permutations = made + i + 1
				r.P = float64(reached) / float64(r.Permutations)
				return nil
			}
		}
	}
	r.Permutations, r.P = o.Permutations, float64(1+reached)/float64(1+o.Permutations)
	return nil
}

// lean fits all rows.
func (r *Result) lean(t *table) error {
	var x []float64
	var y []bool
	for _, d := range t.days {
		x = append(x, d.x...)
		y = append(y, slices.Repeat([]bool{d.present}, d.rows())...)
	}
	m, err := train.Fit(t.names, x, y, fitOptions())
	if err != nil {
		return fmt.Errorf("domain classifier: %w", err)
	}
	sum := 0.0
	for i, w := range m.Weight {
		r.LeansOn = append(r.LeansOn, Weight{Input: t.names[i], Weight: w})
		sum += math.Abs(w)
	}
	for i := range r.LeansOn {
		if sum > 0 {
			r.LeansOn[i].Share = math.Abs(r.LeansOn[i].Weight) / sum
		}
	}
	slices.SortStableFunc(r.LeansOn, func(a, b Weight) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	r.LeansOn = r.LeansOn[:min(leansOn, len(r.LeansOn))]
	return nil
}

// Judge judges the result by its AUC and its p-value, given enough days.
func (r *Result) Judge() (verdict gate.Verdict, reason string) {
	switch {
	case math.IsNaN(r.AUC):
		return gate.Error, "the classifier gives no AUC"
	case r.AUC < relevantAUC || r.P > doubtful:
		return gate.Pass, ""
	case r.P > significant:
		return gate.Inconclusive, fmt.Sprintf("AUC %.3f, but p = %.3f is not below %.2f", r.AUC, r.P, significant)
	case len(r.LeansOn) == 0:
		return gate.Error, "the classifier leans on nothing"
	default:
		return gate.Fail, fmt.Sprintf("AUC %.3f tells the present from the reference, p = %.3f; it leans on %s", r.AUC, r.P, r.LeansOn[0].Input)
	}
}

// fitOptions are those of the models, to four digits: the order of the rows, which is all that counts, needs no more.
func fitOptions() train.FitOptions {
	o := train.DefaultFitOptions()
	o.Tolerance = 1e-4
	return o
}

var errShape = errors.New("rows do not fit the features")
