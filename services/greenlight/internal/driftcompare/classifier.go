package driftcompare

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
)

// Classify tests whether a classifier can distinguish the current set from the reference by the model's features.
func Classify(reference, current *Set, o twosample.Options) (*twosample.Result, error) {
	if reference.Schema.Name != current.Schema.Name {
		return nil, fmt.Errorf("%s has schema %s, but %s has schema %s: give two sets with the same schema", current.Name, current.Schema.Name, reference.Name, reference.Schema.Name)
	}
	r, err := twosample.Classify(reference.features(), reference.sample(), current.sample(), o)
	if err != nil {
		return nil, fmt.Errorf("classify %s against %s: %w", current.Name, reference.Name, err)
	}
	return r, nil
}

// features returns the names of the model's features.
func (s *Set) features() []string {
	var names []string
	for _, c := range s.columns {
		if c.Role == drift.ModelFeature {
			names = append(names, c.Name)
		}
	}
	return names
}

// sample returns the model's features, row by row.
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

// maxLeans is the number of inputs that Apart names.
const maxLeans = 4

// Apart returns the result of the classifier in one line: can it distinguish the sets, and by which inputs? It is empty if no
// classifier was used.
func (r *Report) Apart() string {
	c := r.Classifier
	if c == nil {
		return ""
	}
	if len(c.LeansOn) == 0 {
		return fmt.Sprintf("%s: %s", c.Verdict, c.Reason)
	}
	var leans []string
	for _, w := range c.LeansOn[:min(maxLeans, len(c.LeansOn))] {
		leans = append(leans, fmt.Sprintf("%s %.0f %%", w.Input, 100*w.Share))
	}
	return fmt.Sprintf("%s: AUC %.3f between reference and current, p %.3f of %d permutations of the days; it leans on %s",
		c.Verdict, c.AUC, c.P, c.Permutations, strings.Join(leans, ", "))
}
