// Package driftcompare measures the drift from one set of rows to another without a service. A set is market data, a
// feature log of an executor, or part of either.
package driftcompare

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Set is rows to compare, each with its UTC day. It must not be changed.
type Set struct {
	// Name is used in titles, Symbols are the instruments.
	Name    string
	Symbols []string
	Schema  *feature.Schema
	Source  evidence.Source
	// Inputs are the files that the set was read from.
	Inputs []evidence.Input
	// Left is the number of rows or minutes that were skipped because the model could not score them.
	Left int
	// Untimely is the number of rows of a log that were skipped because their time is impossible. Sources counts the other
	// rows by source. Both are zero for market data.
	Untimely int
	Sources  featurelog.Sources
	// Quality is the quality of the whole market data; nil for a feature log.
	Quality *experiment.DataQuality

	// columns are the features of the schema without the bias, the score if there is a model, and the raw inputs if known.
	columns []drift.Column
	scorer  model.Scorer
	// days has the day of each row, in days since 1970-01-01.
	days []int
}

// newSet returns a set without rows, with or without raw inputs. scorer may be nil.
func newSet(schema *feature.Schema, scorer model.Scorer, raw bool) *Set {
	s := &Set{Schema: schema, scorer: scorer}
	weights := model.Importance(scorer, schema)
	var inputs []drift.Column
	for _, name := range experiment.Watched(schema) {
		switch {
		case schema.Index(name) >= 0:
			s.columns = append(s.columns, drift.Column{Name: name, Role: drift.ModelFeature, Weight: weights[name]})
		case raw:
			inputs = append(inputs, drift.Column{Name: name, Role: drift.RawInput})
		}
	}
	if scorer != nil {
		s.columns = append(s.columns, drift.Column{Name: experiment.ScoreColumn, Role: drift.Score})
	}
	s.columns = append(s.columns, inputs...)
	return s
}

// add adds a vector of the schema, and raw inputs by name if the set has them. It skips a vector that the model could not
// score.
func (s *Set) add(day int, x []float64, input func(name string) float64) {
	for _, v := range x {
		if math.IsNaN(v) {
			s.Left++
			return
		}
	}
	s.days = append(s.days, day)
	for i := range s.columns {
		c := &s.columns[i]
		var v float64
		switch c.Role {
		case drift.ModelFeature:
			v = x[s.Schema.Index(c.Name)]
		case drift.Score:
			v = s.scorer.Score(x)
		default:
			v = input(c.Name)
		}
		c.Values = append(c.Values, v)
	}
}

// Rows returns the number of rows.
func (s *Set) Rows() int { return len(s.days) }

// Days returns the UTC days with rows, ascending.
func (s *Set) Days() []int { return slices.Compact(slices.Sorted(slices.Values(s.days))) }

// part returns the rows of the days for which keep returns true.
func (s *Set) part(keep func(day int) bool) *Set {
	p := *s
	p.columns, p.days = make([]drift.Column, len(s.columns)), nil
	for j, c := range s.columns {
		p.columns[j] = drift.Column{Name: c.Name, Role: c.Role, Weight: c.Weight}
	}
	for i, day := range s.days {
		if !keep(day) {
			continue
		}
		p.days = append(p.days, day)
		for j, c := range s.columns {
			p.columns[j].Values = append(p.columns[j].Values, c.Values[i])
		}
	}
	return &p
}

// Split splits a set by time: its first days, and the rest.
func (s *Set) Split(days int) (first, rest *Set) {
	cut := math.MaxInt
	if all := s.Days(); days < len(all) {
		cut = all[days]
	}
	first, rest = s.part(func(day int) bool { return day < cut }), s.part(func(day int) bool { return day >= cut })
	return first, rest
}

// dayTime returns the midnight at which a day begins.
func dayTime(day int) time.Time { return time.Unix(int64(day)*86400, 0).UTC() }

// Source returns the source that evidence of both sets must name: simulated if either set is simulated, and otherwise the
// source of the current set.
func Source(reference, current *Set) evidence.Source {
	if reference.Source == evidence.Simulated {
		return evidence.Simulated
	}
	return current.Source
}

// Inputs returns the files of both sets without duplicates.
func Inputs(reference, current *Set) []evidence.Input {
	inputs := slices.Clone(reference.Inputs)
	for _, in := range current.Inputs {
		if !slices.Contains(inputs, in) {
			inputs = append(inputs, in)
		}
	}
	return inputs
}

// FromMarket returns the minutes of market data that a model of the schema can score, with the raw inputs. scorer, which may
// be nil, adds the score. The first day only warms up the features and has no rows.
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
