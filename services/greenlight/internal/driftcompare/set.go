// Package driftcompare measures the drift from one set of rows to another without a service: market data, what an executor
// logged, or the two parts of one of them.
package driftcompare

import (
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
	// Name is for titles, Symbols are its instruments.
	Name    string
	Symbols []string
	Schema  *feature.Schema
	Source  evidence.Source
	// Inputs are the files that it was read from.
	Inputs []evidence.Input
	// Left is how many rows or minutes were left out, because the model could not have scored them.
	Left int
	// Untimely is how many rows of a log were left out for a time that cannot be, Sources what the others say of theirs. Both
	// are zero for market data.
	Untimely int
	Sources  featurelog.Sources
	// Quality is that of the market data that it was made of, before it was cut; nil for a feature log.
	Quality *experiment.DataQuality

	// columns are the features of the schema but bias, the score if there is a model, the raw inputs if they are known.
	columns []drift.Column
	scorer  model.Scorer
	// days are one per row, in whole days since 1970-01-01.
	days []int
}

// newSet is a set without rows, with raw inputs or without; scorer may be nil.
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

// add takes a vector of the schema, and raw inputs by name where the set has them. One that the model could not score is
// left out.
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

// Rows is the number of rows.
func (s *Set) Rows() int { return len(s.days) }

// Days are the UTC days that have rows, ascending.
func (s *Set) Days() []int { return slices.Compact(slices.Sorted(slices.Values(s.days))) }

// part is the rows of the days that keep says.
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

// Split cuts a set in time: the first so many of its days, and the rest.
func (s *Set) Split(days int) (first, rest *Set) {
	cut := math.MaxInt
	if all := s.Days(); days < len(all) {
		cut = all[days]
	}
	first, rest = s.part(func(day int) bool { return day < cut }), s.part(func(day int) bool { return day >= cut })
	return first, rest
}

// dayTime is the midnight with which a day begins.
func dayTime(day int) time.Time { return time.Unix(int64(day)*86400, 0).UTC() }

// Source is what evidence of both sets must say of them: what is simulated in one of them, is; it is
// live when all that was logged last is.
func Source(reference, current *Set) evidence.Source {
	if reference.Source == evidence.Simulated {
		return evidence.Simulated
	}
	return current.Source
}

// Inputs are the files of both sets, each once.
func Inputs(reference, current *Set) []evidence.Input {
	inputs := slices.Clone(reference.Inputs)
	for _, in := range current.Inputs {
		if !slices.Contains(inputs, in) {
			inputs = append(inputs, in)
		}
	}
	return inputs
}
