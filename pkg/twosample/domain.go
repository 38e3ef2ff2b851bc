// Package twosample tests whether a classifier can distinguish present rows from reference rows. The index in [drift]
// checks one feature at a time. If two features start to move together in a new way, every single index stays the same.
//
// It is the classifier two-sample test: D. Lopez-Paz and M. Oquab (2017), "Revisiting classifier two-sample tests",
// ICLR. The classifier is logistic over the features, their squares and their products, so it sees means, spreads and
// correlations. It is judged on days that it was not fitted to, and compared with fits in which the days' labels are
// exchanged: minutes of one day are not independent, but days nearly are.
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

// Sample holds the rows of one side.
type Sample struct {
	// X holds the rows one after the other, one value per feature. Rows with a non-finite value are left out.
	X []float64
	// Days are the UTC days of the rows.
	Days []int
}

// Options are the options of [Classify].
type Options struct {
	// MaxRows limits the rows of a side; longer samples are thinned evenly. The test is over days, not rows.
	MaxRows int
	// Permutations is the largest number of exchanges of the days' labels. The test ends earlier once so many AUCs have
	// reached the true one that the p-value must be above 0.05.
	Permutations int
	// Folds is the number of parts into which the days are dealt.
	Folds int
	// Seed seeds the exchanges.
	Seed uint64
	// MinDays is how many days of each side are needed for a verdict.
	MinDays int
}

// DefaultOptions are 2,000 rows a side, 200 permutations, 4 folds and at least 5 days. On two cores this takes a few
// seconds if something has changed, and a few tenths of a second otherwise.
func DefaultOptions() Options {
	return Options{MaxRows: 2000, Permutations: 200, Folds: 4, Seed: 1, MinDays: 5}
}

// The verdict: FAIL needs a shift that is unlikely to be chance and large enough to matter. An AUC of 0.6 corresponds
// to a shift of one feature by 0.36 standard deviations (Phi(0.36/sqrt 2)).
const (
	significant = 0.01
	maxP        = 0.05
	relevantAUC = 0.6
)

// Result is the result of the classifier test.
type Result struct {
	// AUC is the probability that a present row scores above a reference row, out of fold: 0.5 if they are alike.
	AUC float64 `json:"auc"`
	// P is how often exchanged days give such an AUC, in (0,1], and Permutations is how many exchanges that took.
	P            float64 `json:"p_value"`
	Permutations int     `json:"permutations"`
	// Rows and days that were used, and rows left out for a missing value.
	ReferenceRows int `json:"reference_rows"`
	ReferenceDays int `json:"reference_days"`
	Rows          int `json:"rows"`
	Days          int `json:"days"`
	Incomplete    int `json:"incomplete"`
	// LeansOn are the inputs with the largest weights in a fit to all rows, largest first.
	LeansOn []Weight     `json:"leans_on"`
	Verdict gate.Verdict `json:"verdict"`
	// Reason explains a verdict other than PASS.
	Reason string `json:"reason"`
}

// Weight is how much an input contributes.
type Weight struct {
	// Input is a feature, its square ("a^2") or a product ("a*b").
	Input string `json:"input"`
	// Weight is per standard deviation of the input, in log odds; Share is |Weight| relative to the sum over all
	// inputs, in [0,1].
	Weight float64 `json:"weight"`
	Share  float64 `json:"share"`
}

// leansOn is how many weights are reported.
const leansOn = 8

// Classify compares the present with the reference; both have the named features. With too few days the verdict is
// INCONCLUSIVE, with the counts. It returns an error if rows do not match the features.
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

// round is how many exchanges are computed before their AUCs are checked in order. It does not affect the result.
const round = 8

// test computes the AUC and its p-value on all cores. If nothing has changed, a few exchanges that reach the AUC are as
// informative as all of them: J. Besag and P. Clifford (1991), "Sequential Monte Carlo p-values", Biometrika 78.
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
	enough := int(maxP*float64(o.Permutations)) + 1 // as many of all permutations give a p-value above the limit
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

// lean fits the classifier to all rows for the weights.
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
	case r.AUC < relevantAUC || r.P > maxP:
		return gate.Pass, ""
	case r.P > significant:
		return gate.Inconclusive, fmt.Sprintf("AUC %.3f, but p = %.3f is not below %.2f", r.AUC, r.P, significant)
	case len(r.LeansOn) == 0:
		return gate.Error, "the classifier leans on nothing"
	default:
		return gate.Fail, fmt.Sprintf("AUC %.3f tells the present from the reference, p = %.3f; it leans on %s", r.AUC, r.P, r.LeansOn[0].Input)
	}
}

// fitOptions are the model's options with four digits: only the order of the rows matters.
func fitOptions() train.FitOptions {
	o := train.DefaultFitOptions()
	o.Tolerance = 1e-4
	return o
}

var errShape = errors.New("rows do not fit the features")
