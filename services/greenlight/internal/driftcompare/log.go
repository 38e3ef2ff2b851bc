package driftcompare

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// ErrSchema means that a log has no rows of the requested schema.
var ErrSchema = errors.New("has no rows of schema")

// endOfTime is after every day of any log.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// FromLog returns the rows of a feature log with features of the schema. symbol may be empty for all symbols. Rows with an
// impossible time are skipped and counted. The error is [ErrSchema] if all rows have other schemas.
func FromLog(log featurelog.Log, symbol string, schema *feature.Schema, scorer model.Scorer) (*Set, error) {
	return FromLogBetween(log, symbol, schema, scorer, time.Time{}, endOfTime)
}

// FromLogBetween is like [FromLog] for rows that arrived in [from, to). Both must be UTC midnights.
func FromLogBetween(log featurelog.Log, symbol string, schema *feature.Schema, scorer model.Scorer, from, to time.Time) (*Set, error) {
	s := newSet(schema, scorer, false)
	s.Name, s.Sources = filepath.Base(filepath.Clean(log.String())), featurelog.Sources{}
	schemas, symbols, others, rows := map[string]bool{}, map[string]bool{}, map[string]bool{}, 0
	for row, err := range log.Read(from, to) {
		if err != nil {
			return nil, fmt.Errorf("feature log: %w", err)
		}
		if symbol != "" && row.Symbol != symbol {
			others[row.Symbol] = true
			continue
		}
		rows++
		schemas[row.Schema.Name] = true
		if row.Schema.Name != schema.Name {
			continue
		}
		if row.Schema.Hash != schema.Hash() {
			return nil, fmt.Errorf("%s: schema %s has hash %.12s in the log, but %.12s in this program: a feature has changed its meaning",
				log, schema.Name, row.Schema.Hash, schema.Hash())
		}
		symbols[row.Symbol] = true
		at, ok := row.Time()
		if !ok {
			s.Untimely++
			continue
		}
		experiment.MarkSimulated(&row)
		s.Sources.Add(&row)
		s.add(dayOf(at), row.Features, nil)
	}
	if rows == 0 && len(others) > 0 {
		return nil, fmt.Errorf("%s has no symbol %q: it has %s", log, symbol, strings.Join(slices.Sorted(maps.Keys(others)), ", "))
	}
	if rows > 0 && !schemas[schema.Name] {
		return nil, fmt.Errorf("%s %w %s: it has %s", log, ErrSchema, schema.Name, strings.Join(slices.Sorted(maps.Keys(schemas)), ", "))
	}
	s.Symbols = slices.Sorted(maps.Keys(symbols))
	s.Source = s.Sources.Evidence()
	var err error
	s.Inputs, err = log.Inputs(from, to)
	return s, err
}

// dayOf returns the UTC day that a row belongs to. A row at midnight belongs to the day that ends, as in market data.
func dayOf(at time.Time) int { return int(at.Add(-time.Millisecond).Unix() / 86400) }
