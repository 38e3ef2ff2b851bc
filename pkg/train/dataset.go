package train

import (
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Dataset holds the usable rows of a frame or table in time order: those whose inputs and label are defined.
type Dataset struct {
	// Schema names the inputs.
	Schema *feature.Schema
	// Minute is the row's position in the frame or table.
	Minute []int
	// Day is the row's UTC day, in whole days since 1970-01-01.
	Day []int
	// X holds Schema.Len() inputs per row, in row order.
	X []float64
	// Z is the value that the label compares with its threshold: see [label.Rule]. If Labelled, it is the label: 1 or 0.
	Z []float64
	// Labelled reports whether the labels came with the rows.
	Labelled bool
	// Label is the rule of Z, unless Labelled.
	Label label.Rule
	// Times are the rows' times in Unix milliseconds, ascending, if Labelled. Horizon is how far a label looks ahead, in
	// milliseconds. A fold leaves out training rows whose labels look into its test.
	Times   []int64
	Horizon int64
}

// A row is left out while the longest window of its features, in minutes, spans a hole longer than spannedDays: the
// market before the hole was a different one.
const (
	longWindow  = 1440
	spannedDays = 14
)

// NewDataset collects the rows of f that are ready under schema and under every schema of also. Pass the same schemas
// for models whose scores are compared row by row. Rows whose features span a hole of more than 14 days are left out. The
// rule must be complete.
func NewDataset(f *feature.Frame, rule label.Rule, schema *feature.Schema, also ...*feature.Schema) *Dataset {
	n := f.Len()
	d := &Dataset{
		Schema: schema, Label: rule, Minute: make([]int, 0, n), Day: make([]int, 0, n),
		X: make([]float64, 0, n*schema.Len()), Z: make([]float64, 0, n),
	}
	z := rule.Z(f)
	x := make([]float64, schema.Len())
	width := 0
	for _, s := range also {
		width = max(width, s.Len())
	}
	spare := make([]float64, width)
	hole := -longWindow
	for i := range n {
		if i > 0 && f.End(i)-f.End(i-1) > spannedDays*24*60*60*1000 {
			hole = i
		}
		if i-hole < longWindow || math.IsNaN(z[i]) || !f.Row(i, schema, x) {
			continue
		}
		ready := true
		for _, s := range also {
			ready = ready && f.Row(i, s, spare)
		}
		if !ready {
			continue
		}
		d.Minute = append(d.Minute, i)
		d.Day = append(d.Day, f.Day(i))
		d.X = append(d.X, x...)
		d.Z = append(d.Z, z[i])
	}
	return d
}

// labelled is the threshold between the labels 0 and 1.
const labelled = 0.5

// trainEnd returns the end of the training rows before the day of a test.
func (d *Dataset) trainEnd(day, purge int) int {
	if !d.Labelled {
		return d.From(day) - purge
	}
	start := int64(day) * 24 * 60 * 60 * 1000
	end, _ := slices.BinarySearch(d.Times, start-d.Horizon+1)
	return min(end, d.From(day))
}

// Len returns the number of rows.
func (d *Dataset) Len() int { return len(d.Minute) }

// Row returns the inputs of row i. The slice shares the dataset's memory.
func (d *Dataset) Row(i int) []float64 {
	k := d.Schema.Len()
	return d.X[i*k : (i+1)*k]
}

// From returns the first row of the given UTC day or a later one, or Len() if there is none.
func (d *Dataset) From(day int) int {
	i, _ := slices.BinarySearch(d.Day, day)
	return i
}

// Fit learns the label's threshold and then the model from rows [from, to), which should end 15 rows before the first
// row that the model is judged on. It returns the same errors as [Fit].
func (d *Dataset) Fit(from, to int, o FitOptions) (m *model.Logistic, threshold float64, err error) {
	if from < 0 || to > d.Len() || from >= to {
		return nil, math.NaN(), fmt.Errorf("rows %d to %d of %d: %w", from, to, d.Len(), ErrTooFewRows)
	}
	z := d.Z[from:to]
	if threshold = labelled; !d.Labelled {
		threshold = d.Label.Threshold(z)
	}
	y := make([]bool, len(z))
	for i, v := range z {
		y[i] = v > threshold
	}
	k := d.Schema.Len()
	m, err = Fit(d.Schema.Names(), d.X[from*k:to*k], y, o)
	return m, threshold, err
}
