// Package retrain makes the next candidate out of newer data, in the order in which one has to ask: is there enough of it
// and is it whole ([Limits]), are its features fit to learn from ([Validate]), does a model of it hold out of time
// (package study), and do its inputs stay what they were ([MeasureHoldout])? What came of it is a [Report].
//
// The data are market files, or what an executor logged ([FromLog]).
package retrain

import (
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Population is the rows of the window that a candidate can learn from: those that are ready under v1.8 and v1.8.1, so
// that what is said of one schema and of the other is of the same minutes, and that have a label.
type Population struct {
	Data  *experiment.Data
	Frame *feature.Frame
	// Candidate is the schema of the model to train.
	Candidate *feature.Schema
	// Rows hold every feature that is examined: see [Population.Features].
	Rows *train.Dataset
	// Days are the UTC days that have rows, ascending, in whole days since 1970-01-01.
	Days []int
	// Positives is how many rows are positive when the label's threshold is learned from all of them. It is there for
	// [Limits] alone: training learns the threshold of each fold anew.
	Positives int
}

// NewPopulation computes features and labels. It may be empty: [Limits.Check] refuses that.
func NewPopulation(data *experiment.Data, schema string) (*Population, error) {
	candidate, ok := feature.Lookup(schema)
	if !ok {
		return nil, fmt.Errorf("unknown feature schema %q", schema)
	}
	examined, err := feature.NewSchema("examined", examinedNames(candidate)...)
	if err != nil {
		return nil, err
	}
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", data.Name, err)
	}
	p := &Population{
		Data: data, Frame: frame, Candidate: candidate,
		Rows: train.NewDataset(frame, examined, train.DefaultOptions().Also...),
	}
	p.Days = slices.Compact(slices.Clone(p.Rows.Day))
	threshold := label.Threshold(p.Rows.Z)
	for _, z := range p.Rows.Z {
		if z > threshold {
			p.Positives++
		}
	}
	return p, nil
}

// examinedNames are the features of the candidate, the raw inputs, and the features of v1.8 and v1.8.1, in this order
// and each once, without the constant.
func examinedNames(candidate *feature.Schema) []string {
	names := experiment.Watched(candidate)
	for _, s := range train.DefaultOptions().Also {
		for _, name := range experiment.Watched(s) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Features are the names of what is examined, in the order of the rows.
func (p *Population) Features() []string { return p.Rows.Schema.Names() }

// column is the named feature in rows [from, to).
func (p *Population) column(name string, from, to int) []float64 {
	k := p.Rows.Schema.Index(name)
	values := make([]float64, 0, to-from)
	for i := from; i < to; i++ {
		values = append(values, p.Rows.Row(i)[k])
	}
	return values
}
