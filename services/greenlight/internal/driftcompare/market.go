package driftcompare

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// FromMarket is the minutes of a market in which a model of the schema could score, with the raw inputs. scorer, which may
// be nil, adds the score. The first day of a market serves to warm the features up and has no rows.
func FromMarket(data *experiment.Data, schema *feature.Schema, scorer model.Scorer) (*Set, error) {
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", data.Name, err)
	}
	s := newSet(schema, scorer, true)
	s.Name, s.Symbols, s.Source, s.Inputs = data.Name, []string{data.Symbol}, data.Source(), data.Inputs()
	s.Quality = experiment.NewDataQuality(data.Quality)
	x := make([]float64, schema.Len())
	for i := range frame.Len() {
		frame.Row(i, schema, x)
		s.add(frame.Day(i), x, func(name string) float64 { return frame.Column(name)[i] })
	}
	return s, nil
}
