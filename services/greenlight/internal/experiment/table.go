package experiment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/rowtable"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// Table has states that a desk computed itself, in time order.
type Table struct {
	Info TableInfo

	times   []int64
	groups  []string
	columns map[string][]float64
	labels  []float64
}

// TableInfo describes a table in a report.
type TableInfo struct {
	// Label, Time and Group are the names of these columns; Label and Group may be empty.
	Label string `json:"label,omitempty"`
	Time  string `json:"time"`
	Group string `json:"group,omitempty"`
	// HorizonMinutes is how far ahead the label looks.
	HorizonMinutes float64 `json:"horizon_minutes"`
	// Rows is the number of rows of the file. LeftOut is the number of those that lack the label or a feature.
	Rows    int `json:"rows"`
	LeftOut int `json:"rows_left_out"`
	// Baseline are the inputs of the baseline that was fitted to the table.
	Baseline []string `json:"baseline_inputs,omitempty"`
}

func (i *TableInfo) observations() map[string]gate.Observation {
	return map[string]gate.Observation{gate.TableLeftOut: gate.Rate(uint64(i.LeftOut), uint64(i.Rows))}
}

// TableOptions describe the columns of a table.
type TableOptions struct {
	// Path is a CSV or Parquet file.
	Path string
	// Schema has the features, which are columns of the file.
	Schema *feature.Schema
	// Label is the column with 1 for a positive row and 0 for a negative one; empty if there are no labels.
	Label string
	// Time and Group are the columns with the time of a row and with its symbol. Only labelled rows need a time.
	Time, Group string
	// Horizon is how far ahead the label looks.
	Horizon time.Duration
	// Baseline are the inputs of the baseline. The default is the inputs of the built-in heuristic if the file has them, and
	// otherwise the first features of the schema: at most four, and at most half of them.
	Baseline []string
}

// ReadTable reads a table. Rows without a label, or without a feature of the schema, are left out and counted.
func ReadTable(o TableOptions) (_ *Data, err error) {
	r, err := rowtable.Open(o.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	header := r.Header()
	features := slices.DeleteFunc(o.Schema.Names(), func(name string) bool { return name == feature.Bias })
	if len(features) == 0 {
		return nil, fmt.Errorf("schema %s has no feature besides bias", o.Schema.Name)
	}
	if len(o.Baseline) == 0 {
		o.Baseline = defaultInputs(header, features)
	}
	want := slices.Concat(features, o.Baseline)
	if o.Label != "" {
		if slices.Contains(want, o.Label) {
			return nil, fmt.Errorf("the label %q is also a feature: the model would see the answer; leave it out of the schema", o.Label)
		}
		want = append(want, o.Label)
	}
	needed := slices.Compact(slices.Sorted(slices.Values(want)))
	for _, name := range feature.RawInputs() {
		if slices.Contains(header, name) && !slices.Contains(needed, name) {
			needed = append(needed, name)
		}
	}
	read, err := r.Read(rowtable.Columns{Time: o.Time, Group: o.Group, Numbers: needed})
	if err != nil {
		return nil, err
	}
	t := &Table{Info: TableInfo{
		Label: o.Label, Time: o.Time, Group: o.Group, HorizonMinutes: o.Horizon.Minutes(), Rows: read.Rows, Baseline: o.Baseline,
	}, columns: make(map[string][]float64, len(needed))}
	order, dropped, err := o.usable(read, want)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	t.Info.LeftOut = read.Rows - len(order)
	t.times = make([]int64, len(order)) // without times, all rows are on one day
	if o.Time != "" {
		t.times = pick(read.Times, order)
	}
	if o.Group != "" {
		t.groups = pick(read.Groups, order)
	}
	for _, name := range needed {
		t.columns[name] = pick(read.Numbers[name], order)
		delete(read.Numbers, name) // frees memory for the next column
	}
	if o.Label != "" {
		t.labels = t.columns[o.Label]
		delete(t.columns, o.Label)
	}
	name := nameOf(o.Path, "")
	return &Data{
		Series: &market.Series{Symbol: name, Files: []market.File{{Path: filepath.ToSlash(o.Path), SHA256: read.SHA256}}, Dropped: dropped},
		Name:   name, Table: t,
	}, nil
}

// defaultInputs returns the default inputs of the baseline for a file with the header.
func defaultInputs(header, features []string) []string {
	inputs := feature.BaselineInputs()
	if !slices.ContainsFunc(inputs, func(name string) bool { return !slices.Contains(header, name) }) {
		return inputs
	}
	const most = 4
	return slices.Clone(features[:min(most, (len(features)+1)/2)])
}

// usable returns the rows that have all numbers, ordered by time and group. It returns an error for labels other than 0 and 1,
// and for two rows of a group at the same time.
func (o *TableOptions) usable(t *rowtable.Table, want []string) (order []int, dropped map[string]int, err error) {
	dropped = map[string]int{}
	for i := range t.Rows {
		switch {
		case o.Label != "" && math.IsNaN(t.Numbers[o.Label][i]):
			dropped["no label"]++
		case slices.ContainsFunc(want, func(name string) bool { return math.IsNaN(t.Numbers[name][i]) }):
			dropped["a feature is missing"]++
		default:
			order = append(order, i)
		}
	}
	group := func(i int) string {
		if o.Group == "" {
			return ""
		}
		return t.Groups[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if o.Time == "" {
			return 0
		}
		return cmp.Or(cmp.Compare(t.Times[a], t.Times[b]), strings.Compare(group(a), group(b)))
	})
	for k, i := range order {
		if o.Label != "" {
			if y := t.Numbers[o.Label][i]; y != 0 && y != 1 {
				return nil, nil, fmt.Errorf("the label %q is %v in row %d: want 1 or 0", o.Label, y, i+1)
			}
		}
		if k > 0 && o.Time != "" && t.Times[order[k-1]] == t.Times[i] && group(order[k-1]) == group(i) {
			if o.Group == "" {
				return nil, nil, fmt.Errorf("two rows at %s: name the column that distinguishes them with --group, or remove one", stampMS(t.Times[i]))
			}
			return nil, nil, fmt.Errorf("two rows of %q at %s: remove one", text.Clean(group(i), 64), stampMS(t.Times[i]))
		}
	}
	if len(order) == 0 {
		return nil, nil, errors.New("no row has all features and a label")
	}
	return order, dropped, nil
}

func stampMS(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// pick returns the values at the positions.
func pick[T any](values []T, order []int) []T {
	picked := make([]T, len(order))
	for k, i := range order {
		picked[k] = values[i]
	}
	return picked
}

// Len implements [Rows].
func (t *Table) Len() int { return len(t.times) }

// End implements [Rows].
func (t *Table) End(i int) int64 { return t.times[i] }

// Day implements [Rows].
func (t *Table) Day(i int) int { return int(t.times[i] / (24 * 60 * 60 * 1000)) }

// Symbol returns the group of row i; empty without groups.
func (t *Table) Symbol(i int) string {
	if t.groups == nil {
		return ""
	}
	const longest = 64 // bytes, as in requests
	return t.groups[i][:min(len(t.groups[i]), longest)]
}

// Row implements [Rows].
func (t *Table) Row(i int, s *feature.Schema, dst []float64) bool {
	ready := true
	for k, f := range s.Features {
		column, ok := t.columns[f.Name]
		switch {
		case ok:
			dst[k] = column[i]
		case f.Name == feature.Bias:
			dst[k] = 1
		default:
			dst[k] = math.NaN()
		}
		ready = ready && !math.IsNaN(dst[k])
	}
	return ready
}

// Column implements [Rows].
func (t *Table) Column(name string) []float64 { return t.columns[name] }

// dataset returns the rows as inputs of the schema with their labels.
func (t *Table) dataset(s *feature.Schema) *train.Dataset {
	n := t.Len()
	d := &train.Dataset{
		Schema: s, Minute: make([]int, n), Day: make([]int, n), X: make([]float64, n*s.Len()), Z: t.labels,
		Labelled: true, Times: t.times, Horizon: int64(t.Info.HorizonMinutes * 60 * 1000),
	}
	for i := range n {
		d.Minute[i], d.Day[i] = i, t.Day(i)
		t.Row(i, s, d.X[i*s.Len():(i+1)*s.Len()])
	}
	return d
}

// runBaseline trains the baseline of a table with labels, as the first of the given number of runs.
func runBaseline(ctx context.Context, data *Data, runs int, progress func(done, total int)) (s *Study, walk train.Options, err error) {
	inputs, err := feature.Named("baseline", data.Table.Info.Baseline...)
	if err != nil {
		return nil, walk, err
	}
	walk = train.DefaultOptions()
	done := 0
	walk.Progress = func(fold, folds int) {
		if progress != nil {
			progress(done*folds+fold, runs*folds)
		}
	}
	s = &Study{Data: data, Frame: data.Table, Split: walk.Split}
	if s.Baseline, err = data.Table.dataset(inputs).WalkForward(ctx, walk); err != nil {
		return nil, walk, fmt.Errorf("train the baseline on %s: %w", data.Name, err)
	}
	done++
	return s, walk, nil
}

// RunTable trains a model of the schema on a table with labels, and judges it against a baseline on some of the columns. It
// does for a desk's own features and label what [Run] does for market data. progress may be nil.
func RunTable(ctx context.Context, data *Data, schema *feature.Schema, version string, progress func(done, total int)) (*Study, error) {
	s, walk, err := runBaseline(ctx, data, 2, progress)
	if err != nil {
		return nil, err
	}
	result, err := data.Table.dataset(schema).WalkForward(ctx, walk)
	if err != nil {
		return nil, fmt.Errorf("train %s on %s: %w", version, data.Name, err)
	}
	if err := s.add(version, schema, result); err != nil {
		return nil, err
	}
	return s, nil
}
