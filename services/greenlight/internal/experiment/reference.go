package experiment

import (
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// ScoreColumn is the name of the model's score in a drift profile.
const ScoreColumn = "score"

// Watched returns the features whose drift is watched for a model of the schema: the schema's features without the
// constant bias, and the raw inputs.
func Watched(s *feature.Schema) []string {
	return withRaw(slices.DeleteFunc(s.Names(), func(name string) bool { return name == feature.Bias }))
}

// withRaw appends the raw inputs that are not in the list.
func withRaw(names []string) []string {
	for _, raw := range feature.RawInputs() {
		if !slices.Contains(names, raw) {
			names = append(names, raw)
		}
	}
	return names
}

// reference builds the drift profile, with ranges, from the minutes of the training window that the model can score.
func (s *Study) reference(schema *feature.Schema, scorer model.Scorer, window train.Window) (*drift.Profile, error) {
	x := make([]float64, schema.Len())
	var minutes, days []int
	score := drift.Column{Name: ScoreColumn, Role: drift.Score}
	for i := range s.Frame.Len() {
		day := s.Frame.Day(i)
		if day < window.TrainFrom || day >= window.TrainTo || !s.Frame.Row(i, schema, x) {
			continue
		}
		minutes, days = append(minutes, i), append(days, day)
		score.Values = append(score.Values, scorer.Score(x))
	}
	values := func(name string) []float64 {
		source := s.Frame.Column(name)
		if source == nil {
			return nil
		}
		v := make([]float64, len(minutes))
		for k, i := range minutes {
			v[k] = source[i]
		}
		return v
	}
	watched, weights := model.Watched(scorer, schema)
	var columns, inputs []drift.Column
	for _, name := range withRaw(watched) {
		c := drift.Column{Name: name, Weight: weights[name], Values: values(name)}
		if c.Values == nil { // a table lacks this raw input
			continue
		}
		if i := schema.Index(name); i >= 0 {
			if d := schema.Features[i].Domain; d != nil {
				c.Domain = &drift.Domain{Low: d[0], High: d[1]}
			}
			columns = append(columns, c)
		} else {
			c.Role = drift.RawInput
			inputs = append(inputs, c)
		}
	}
	p, err := drift.NewProfile(slices.Concat(columns, []drift.Column{score}, inputs), days)
	if err != nil {
		return nil, err
	}
	p.Ranges = drift.NewRanges(schema.Names(), func(name string) []float64 {
		if name == feature.Bias { // a table lacks it
			return []float64{1}
		}
		return values(name)
	})
	return p, nil
}
