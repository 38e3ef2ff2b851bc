// Package retrain builds the next candidate from newer data, in this order: is there enough data without gaps ([Limits]),
// are the features fit for training ([Validate]), does the model perform out of time (package experiment), and do its
// inputs stay stable ([MeasureHoldout])? The result is a [Report].
//
// The data comes from market files or from an executor's feature log ([FromLog]).
package retrain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Population holds the rows of the window that a candidate can learn from. They have a label, and are defined under v1.8 and
// v1.8.1, so that results under both schemas cover the same minutes.
type Population struct {
	Data  *experiment.Data
	Frame *feature.Frame
	// Candidate is the schema of the model to train.
	Candidate *feature.Schema
	// Rows hold every examined feature: see [Population.Features].
	Rows *train.Dataset
	// Days are the UTC days with rows, ascending, in days since 1970-01-01.
	Days []int
	// Positives is the number of positive rows, with a label threshold learned from all rows. Only [Limits] uses it:
	// training learns a threshold for each fold.
	Positives int
}

// NewPopulation computes features and labels. The result may be empty, which [Limits.Check] refuses.
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
		Rows: train.NewDataset(frame, label.Default(), examined, train.DefaultOptions().Also...),
	}
	p.Days = slices.Compact(slices.Clone(p.Rows.Day))
	threshold := p.Rows.Label.Threshold(p.Rows.Z)
	for _, z := range p.Rows.Z {
		if z > threshold {
			p.Positives++
		}
	}
	return p, nil
}

// examinedNames returns the features of the candidate, the raw inputs, and the features of v1.8 and v1.8.1, in this order,
// without duplicates and without the constant.
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

// Features returns the names of the examined features, in the order of the rows.
func (p *Population) Features() []string { return p.Rows.Schema.Names() }

// column returns the values of a feature in rows [from, to).
func (p *Population) column(name string, from, to int) []float64 {
	k := p.Rows.Schema.Index(name)
	values := make([]float64, 0, to-from)
	for i := from; i < to; i++ {
		values = append(values, p.Rows.Row(i)[k])
	}
	return values
}

const dayMS = 24 * 60 * market.MinuteMS

// Newest returns the data of the newest UTC days that have bars, or all data if days is 0. It keeps the list of files. The
// first of the days only warms up the features, and yields no rows.
func Newest(data *experiment.Data, days int) *experiment.Data {
	if days <= 0 {
		return data
	}
	bars := data.Raw
	seen, last := 0, int64(-1)
	for i := len(bars) - 1; i >= 0; i-- {
		if day := bars[i].Start / dayMS; day != last {
			seen, last = seen+1, day
		}
		if seen > days {
			bars = bars[i+1:]
			break
		}
	}
	series := *data.Series
	series.Bars = slices.Clone(bars)
	return experiment.NewData(&series, data.Name)
}

// NextCandidate returns the version of the next release candidate of a schema: one above the highest in the registry
// under the name, or for example "v1.8.1-rc1" if there is none. It does not fill gaps in the numbers.
func NextCandidate(entries []model.Entry, name, schema string) string {
	highest := 0
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Version, schema+"-rc")
		if e.Name != name || !ok {
			continue
		}
		// Only numbers in the form that this function writes count: not "rc+3", "rc03" or "rc3-x".
		if n, err := strconv.Atoi(digits); err == nil && strconv.Itoa(n) == digits {
			highest = max(highest, n)
		}
	}
	return fmt.Sprintf("%s-rc%d", schema, highest+1)
}
