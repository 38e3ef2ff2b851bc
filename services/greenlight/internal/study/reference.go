package study

import (
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// RawInputs are watched beside a model's own features, so that a report can show that the price moved while the robust
// features did not.
func RawInputs() []string { return []string{"mid", "spread_bp", "vol1m", "rsi14"} }

// ScoreColumn is the name of the model's score in a drift profile.
const ScoreColumn = "score"

// Watched are the features whose drift is watched for a model of the schema: its own, without the constant bias, and the
// raw inputs.
func Watched(s *feature.Schema) []string {
	names := slices.DeleteFunc(s.Names(), func(name string) bool { return name == feature.Bias })
	for _, raw := range RawInputs() {
		if !slices.Contains(names, raw) {
			names = append(names, raw)
		}
	}
	return names
}

// reference makes the drift profile of the minutes of the training window in which the model could score.
func (s *Study) reference(schema *feature.Schema, scorer model.Scorer, window train.Window) (*drift.Profile, error) {
	names := Watched(schema)
	columns := make([]drift.Column, len(names)+1)
	sources := make([][]float64, len(names))
	for j, name := range names {
		columns[j].Name, sources[j] = name, s.Frame.Column(name)
	}
	scores := &columns[len(names)]
	scores.Name = ScoreColumn
	x := make([]float64, schema.Len())
	var days []int
	for i := range s.Frame.Len() {
		day := s.Frame.Day(i)
		if day < window.TrainFrom || day >= window.TrainTo || !s.Frame.Row(i, schema, x) {
			continue
		}
		days = append(days, day)
		for j, source := range sources {
			columns[j].Values = append(columns[j].Values, source[i])
		}
		scores.Values = append(scores.Values, scorer.Score(x))
	}
	return drift.NewProfile(columns, days)
}
