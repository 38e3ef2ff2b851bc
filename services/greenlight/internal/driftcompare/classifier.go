package driftcompare

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
)

// Classify asks whether a classifier can tell the current set from the reference by what the model sees, and nothing else.
func Classify(reference, current *Set, o twosample.Options) (*twosample.Result, error) {
	if reference.Schema.Name != current.Schema.Name {
		return nil, fmt.Errorf("%s is of schema %s and %s of %s: give two of one schema", current.Name, current.Schema.Name, reference.Name, reference.Schema.Name)
	}
	return classify(reference, current, o)
}

// classify asks whether a classifier can tell the two sets apart by what the model sees.
func classify(reference, current *Set, o twosample.Options) (*twosample.Result, error) {
	r, err := twosample.Classify(reference.features(), reference.sample(), current.sample(), o)
	if err != nil {
		return nil, fmt.Errorf("tell %s from %s: %w", current.Name, reference.Name, err)
	}
	return r, nil
}

// features are the names of the model's features.
func (s *Set) features() []string {
	var names []string
	for _, c := range s.columns {
		if c.Role == drift.ModelFeature {
			names = append(names, c.Name)
		}
	}
	return names
}

// sample is the model's features row by row.
func (s *Set) sample() twosample.Sample {
	sample := twosample.Sample{Days: s.days, X: make([]float64, 0, len(s.days)*len(s.features()))}
	for i := range s.days {
		for _, c := range s.columns {
			if c.Role == drift.ModelFeature {
				sample.X = append(sample.X, c.Values[i])
			}
		}
	}
	return sample
}

// told is how many of the inputs that a classifier leans on are told.
const told = 4

// Apart says in a line whether the classifier can tell the sets apart, and by what; empty when it was not asked.
func (r *Report) Apart() string {
	c := r.Classifier
	if c == nil {
		return ""
	}
	if len(c.LeansOn) == 0 {
		return fmt.Sprintf("%s: %s", c.Verdict, c.Reason)
	}
	var leans []string
	for _, w := range c.LeansOn[:min(told, len(c.LeansOn))] {
		leans = append(leans, fmt.Sprintf("%s %.0f %%", w.Input, 100*w.Share))
	}
	return fmt.Sprintf("%s: AUC %.3f between reference and current, p %.3f of %d permutations of the days; it leans on %s",
		c.Verdict, c.AUC, c.P, c.Permutations, strings.Join(leans, ", "))
}
