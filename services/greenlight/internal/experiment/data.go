// Package experiment turns market data into judged models. It reads the data, computes features, trains walk-forward, and
// builds the artifacts that the services load.
package experiment

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/quality"
)

// Data is the market data of an experiment.
type Data struct {
	*market.Series

	// Raw are the bars as they were read. The series leaves out the frozen stretches, where the market is unknown.
	Raw []market.Bar
	// Quality is the quality of the raw bars.
	Quality quality.Report
	// Name is the registry name of models trained on this data, for example "btcperp-ftx-1m".
	Name string
	// Table has the rows if the data is a table of a desk's own features. There are then no bars and no quality.
	Table *Table
}

// Rows are states of a market in time order: a frame computed from bars, or a table.
type Rows interface {
	Len() int
	// End returns the decision time of row i, in Unix milliseconds UTC.
	End(i int) int64
	// Day returns the UTC day of row i, in whole days since 1970-01-01.
	Day(i int) int
	// Row fills dst with the features of s at row i, and reports whether all are defined.
	Row(i int, s *feature.Schema, dst []float64) bool
	// Column returns the named feature at every row, with NaN where it is undefined; nil if there is no such feature.
	Column(name string) []float64
}

// Rows returns the table, or computes the features of the bars.
func (d *Data) Rows() (Rows, error) {
	if d.Table != nil {
		return d.Table, nil
	}
	frame, err := feature.Compute(d.Bars)
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", d.Name, err)
	}
	return frame, nil
}

// NewData examines the series and removes its frozen stretches.
func NewData(series *market.Series, name string) *Data {
	d := &Data{Series: series, Name: name, Raw: series.Bars}
	d.Quality, series.Bars = quality.Examine(d.Raw)
	return d
}

// Read reads market data from a file or folder.
func Read(path string, opts marketfile.Options) (*Data, error) {
	series, err := marketfile.Read(path, opts)
	if err != nil {
		return nil, err
	}
	return NewData(series, nameOf(path, opts.Symbol)), nil
}

// Simulate returns data of a simulated market.
func Simulate(opts market.SimulateOptions) (*Data, error) {
	sim, err := market.Simulate(opts)
	if err != nil {
		return nil, err
	}
	series := sim.Series()
	h := sha256.New()
	if err := market.WriteBars(h, series); err != nil {
		return nil, err
	}
	series.Files = []market.File{{
		Path:   fmt.Sprintf("simulated(seed=%d,days=%d)", opts.Seed, len(series.Bars)/(24*60)),
		SHA256: hex.EncodeToString(h.Sum(nil)),
	}}
	return NewData(series, "simulated"), nil
}

// MarkSimulated sets the source of a logged row that has no source and is of the simulated instrument, which greenlight
// simulate and every run without --data use.
func MarkSimulated(row *featurelog.Row) {
	if row.Source == "" && row.Symbol == "SIM-PERP" {
		row.Source = string(evidence.Simulated)
	}
}

// Source returns the source that evidence from this data must name.
func (d *Data) Source() evidence.Source {
	if d.Simulated {
		return evidence.Simulated
	}
	return evidence.Replay
}

// Inputs returns the files of the data, for evidence.
func (d *Data) Inputs() []evidence.Input {
	inputs := make([]evidence.Input, len(d.Files))
	for i, f := range d.Files {
		inputs[i] = evidence.Input{Path: f.Path, SHA256: f.SHA256}
	}
	return inputs
}

// Header returns the evidence header of a file about the model that is computed from the data. git is the revision of the
// program that writes the file.
func (d *Data) Header(schema string, a *model.Artifact, git string) evidence.Header {
	return evidence.Header{
		Schema: schema, Source: d.Source(), Inputs: d.Inputs(),
		Model: &evidence.Model{Version: a.Manifest.Version, Digest: a.Digest()}, Git: git,
	}
}

var notName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// RegistryName returns the text as a registry name, without the characters that such a name may not have. If nothing is left,
// it returns otherwise.
func RegistryName(text, otherwise string) string {
	name := strings.Trim(notName.ReplaceAllString(text, "-"), "-._")
	return cmp.Or(name[:min(len(name), 64)], otherwise)
}

// nameOf derives a registry name from a path: its last element without the extensions of data files.
func nameOf(path, symbol string) string {
	name := filepath.Base(filepath.Clean(path))
	if abs, err := filepath.Abs(path); err == nil {
		name = filepath.Base(abs)
	}
	for _, ending := range []string{".gz", ".zip", ".csv", ".tsv", ".txt", ".parquet", ".json"} {
		name = strings.TrimSuffix(name, ending)
	}
	if symbol != "" {
		name += "-" + symbol
	}
	return RegistryName(name, "data")
}
