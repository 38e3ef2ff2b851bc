package driftcompare

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// simulatedSymbol is the instrument of greenlight simulate and of every run without --data. Rows that name no source are
// known by it.
const simulatedSymbol = "SIM-PERP"

// SchemaError is a log that has no row of the features that are asked for.
type SchemaError struct {
	// Dir is the log, Want the schema, Has those that the log has.
	Dir, Want string
	Has       []string
}

// Error implements error.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("%s has no rows of schema %s: it has %s", e.Dir, e.Want, strings.Join(e.Has, ", "))
}

// IsLog reports whether the path is the folder of a feature log.
func IsLog(path string) bool {
	days, err := fs.Glob(os.DirFS(path), "date=*")
	return err == nil && len(days) > 0
}

// always is the end of all time that a log can be of.
var always = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// FromLog is the rows of a feature log that have features of the schema, as they were logged; symbol may be empty for all.
// Rows whose times cannot be are left out and counted. It fails with [*SchemaError] when it has rows of other schemas
// alone.
func FromLog(dir, symbol string, schema *feature.Schema, scorer model.Scorer) (*Set, error) {
	return FromLogBetween(dir, symbol, schema, scorer, time.Time{}, always)
}

// FromLogBetween is as [FromLog], of the rows that arrived in [from, to), which are UTC midnights.
func FromLogBetween(dir, symbol string, schema *feature.Schema, scorer model.Scorer, from, to time.Time) (*Set, error) {
	s := newSet(schema, scorer, false)
	s.Name, s.Sources = filepath.Base(filepath.Clean(dir)), featurelog.Sources{}
	schemas, symbols, others, rows := map[string]bool{}, map[string]bool{}, map[string]bool{}, 0
	for row, err := range featurelog.Read(dir, from, to) {
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
			return nil, fmt.Errorf("%s: schema %s has the hash %.12s in the log, but %.12s here: a feature has changed its meaning",
				dir, schema.Name, row.Schema.Hash, schema.Hash())
		}
		symbols[row.Symbol] = true
		at, ok := row.Time()
		if !ok {
			s.Untimely++
			continue
		}
		if row.Source == "" && row.Symbol == simulatedSymbol {
			row.Source = string(evidence.Simulated)
		}
		s.Sources.Add(&row)
		s.add(dayOf(at), row.Features, nil)
	}
	if rows == 0 && len(others) > 0 {
		return nil, fmt.Errorf("%s has no symbol %q: it has %s", dir, symbol, strings.Join(slices.Sorted(maps.Keys(others)), ", "))
	}
	if rows > 0 && !schemas[schema.Name] {
		return nil, &SchemaError{dir, schema.Name, slices.Sorted(maps.Keys(schemas))}
	}
	s.Symbols = slices.Sorted(maps.Keys(symbols))
	s.Source = s.Sources.Evidence()
	var err error
	s.Inputs, err = logFiles(dir, from, to)
	return s, err
}

// dayOf is the UTC day that a row belongs to: what is so at midnight ends the old day, as in a market.
func dayOf(at time.Time) int { return int(at.Add(-time.Millisecond).Unix() / 86400) }

// logFiles are the files of a log of the days in [from, to), with their digests.
func logFiles(dir string, from, to time.Time) ([]evidence.Input, error) {
	names, err := fs.Glob(os.DirFS(dir), "date=*/schema=*/part-*.parquet")
	if err != nil {
		return nil, fmt.Errorf("feature log: %w", err)
	}
	inputs := make([]evidence.Input, 0, len(names))
	for _, name := range names {
		day, _, _ := strings.Cut(strings.TrimPrefix(name, "date="), "/")
		if day < from.Format(time.DateOnly) || day >= to.Format(time.DateOnly) {
			continue
		}
		in, err := evidence.InputOf(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("feature log: %w", err)
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}
