package train_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// walk returns a random walk of quoted minutes whose volatility comes in waves of six hours, so that a coming move can
// be predicted.
func walk(seed uint64, minutes int) []market.Bar {
	rng := rand.New(rand.NewPCG(seed, 0))
	bars := make([]market.Bar, minutes)
	price := 100.0
	for i := range bars {
		vol := 2e-4 * (1.2 + math.Sin(2*math.Pi*float64(i)/360))
		price *= math.Exp(vol * rng.NormFloat64())
		half := price * 1e-4 * (1 + rng.Float64())
		bars[i] = market.Bar{
			Start: int64(i) * market.MinuteMS,
			Open:  price, High: price * (1 + vol), Low: price * (1 - vol), Close: price,
			Bid: price - half, Ask: price + half,
		}
	}
	return bars
}

func frame(t *testing.T, minutes int) *feature.Frame {
	t.Helper()
	f, err := feature.Compute(walk(1, minutes))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func schema(t *testing.T, name string) *feature.Schema {
	t.Helper()
	s, ok := feature.Lookup(name)
	if !ok {
		t.Fatalf("no schema %q", name)
	}
	return s
}

func TestDatasetRows(t *testing.T) {
	f := frame(t, 4*1440)
	v18, v181 := schema(t, "v1.8"), schema(t, "v1.8.1")
	z := label.Default().Z(f)
	d := train.NewDataset(f, label.Default(), v18, v181)
	x, y := make([]float64, v18.Len()), make([]float64, v181.Len())
	k := 0
	for i := range f.Len() {
		usable := !math.IsNaN(z[i]) && f.Row(i, v18, x) && f.Row(i, v181, y)
		if !usable {
			continue
		}
		if k >= d.Len() || d.Minute[k] != i {
			t.Fatalf("minute %d is not row %d", i, k)
		}
		if !reflect.DeepEqual(d.Row(k), x) || d.Z[k] != z[i] || d.Day[k] != f.Day(i) {
			t.Errorf("row %d: got %v, %v, day %d", k, d.Row(k), d.Z[k], d.Day[k])
		}
		k++
	}
	if k == 0 || k != d.Len() {
		t.Errorf("got %d rows, want %d", d.Len(), k)
	}
	if got := d.From(0); got != 0 {
		t.Errorf("first row of day 0: got %d, want 0", got)
	}
	if got := d.From(99); got != d.Len() {
		t.Errorf("first row of day 99: got %d, want %d", got, d.Len())
	}
	if _, _, err := d.Fit(10, 10, train.DefaultFitOptions()); !errors.Is(err, train.ErrTooFewRows) {
		t.Errorf("fit of no rows: got %v, want %v", err, train.ErrTooFewRows)
	}
}

func TestWalkForward(t *testing.T) {
	f := frame(t, 20*1440)
	s := schema(t, "v1.8.1")
	o := train.DefaultOptions()
	var steps [][2]int
	o.Progress = func(done, total int) { steps = append(steps, [2]int{done, total}) }
	r, err := train.WalkForward(t.Context(), f, s, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := [][2]int{{0, 2}, {1, 2}, {2, 2}}; !reflect.DeepEqual(steps, want) {
		t.Errorf("progress: got %v, want %v", steps, want)
	}
	z := label.Default().Z(f)
	x := make([]float64, s.Len())
	for i, fold := range r.Folds {
		if err := fold.Model.Validate(); err != nil {
			t.Errorf("fold %d: %v", i, err)
		}
		for k, minute := range fold.Minute {
			if !f.Row(minute, s, x) || fold.OutOfTime.Scores[k] != fold.Model.Score(x) {
				t.Fatalf("fold %d: row %d differs from the model's score of minute %d", i, k, minute)
			}
			if fold.OutOfTime.Labels[k] != (z[minute] > fold.Threshold) {
				t.Errorf("fold %d: label of row %d", i, k)
			}
			if day := f.Day(minute); day < fold.TestFrom || day >= fold.TestTo || fold.OutOfTime.Days[k] != day {
				t.Errorf("fold %d: day %d is not in [%d,%d)", i, day, fold.TestFrom, fold.TestTo)
			}
		}
	}
	report, err := r.Report(eval.DefaultBootstrap())
	if err != nil {
		t.Fatal(err)
	}
	pooled, minutes := r.Pooled()
	if report.N != pooled.Len() || len(minutes) != pooled.Len() || len(report.Folds) != 2 {
		t.Errorf("got %d rows, %d minutes, %d folds", report.N, len(minutes), len(report.Folds))
	}
	if report.AUC < 0.6 {
		t.Errorf("AUC %.3f: waves of volatility should be predictable", report.AUC)
	}
}

// A model does not know its test days: changing the future market changes no earlier model.
func TestWalkForwardDoesNotLookAhead(t *testing.T) {
	bars := walk(1, 20*1440)
	run := func() *train.Result {
		f, err := feature.Compute(bars)
		if err != nil {
			t.Fatal(err)
		}
		r, err := train.WalkForward(t.Context(), f, schema(t, "v1.8"), train.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := run()
	from := int64(before.Folds[0].TestFrom) * 24 * 60 * market.MinuteMS
	for i, b := range bars {
		if b.Start >= from {
			b.High *= 1.5
			b.Low /= 1.5
			bars[i] = b
		}
	}
	after := run()
	if !reflect.DeepEqual(after.Folds[0].Model, before.Folds[0].Model) || after.Folds[0].Threshold != before.Folds[0].Threshold {
		t.Error("the first model changed with the days after its training")
	}
	if reflect.DeepEqual(after.Folds[1].Model, before.Folds[1].Model) {
		t.Error("the second model did not change with its training")
	}
}

func TestWalkForwardErrors(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	flat := make([]market.Bar, 12*1440)
	for i := range flat {
		flat[i] = market.Bar{Start: int64(i) * market.MinuteMS, Open: 1, High: 1, Low: 1, Close: 1, Bid: 1, Ask: 1}
	}
	still, err := feature.Compute(flat)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		ctx    context.Context
		frame  *feature.Frame
		schema string
		also   []*feature.Schema
		want   error
	}{
		{"canceled", canceled, frame(t, 12*1440), "v1.8", nil, context.Canceled},
		{"too short", t.Context(), frame(t, 3*1440), "v1.8", nil, train.ErrTooFewDays},
		{"a market that never moves", t.Context(), still, "v1.8", nil, eval.ErrOneClass},
		{"no ready row", t.Context(), still, "v1.8.1", nil, train.ErrTooFewDays},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := train.DefaultOptions()
			o.Also = tt.also
			if _, err := train.WalkForward(tt.ctx, tt.frame, schema(t, tt.schema), o); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// After a hole of more than 14 days, rows return when no window of a feature spans it. A weekend costs only the rows
// that the features themselves leave undefined.
func TestDatasetLeavesOutRowsThatSpanAHole(t *testing.T) {
	sim, err := market.Simulate(market.SimulateOptions{Seed: 2, Days: 26})
	if err != nil {
		t.Fatal(err)
	}
	bars := sim.Series().Bars
	schema, _ := feature.Lookup("v1.8")
	for _, tt := range []struct {
		name       string
		days, want int
	}{{"2 days", 2, 120}, {"15 days", 15, 1440}} {
		from, to := 5*1440, (5+tt.days)*1440
		frame, err := feature.Compute(slices.Delete(slices.Clone(bars), from, to))
		if err != nil {
			t.Fatal(err)
		}
		d := train.NewDataset(frame, label.Default(), schema)
		first := slices.IndexFunc(d.Minute, func(m int) bool { return m >= from })
		if first < 0 {
			t.Fatalf("%s: no row after the hole", tt.name)
		}
		if got := d.Minute[first] - from; got > tt.want || tt.days > 14 && got < tt.want {
			t.Errorf("%s: the first row is %d minutes after the hole, want %d", tt.name, got, tt.want)
		}
	}
}

// No training row's label looks into the test, however long the horizon.
func TestLabelHorizonPurges(t *testing.T) {
	f := frame(t, 20*1440)
	for _, horizon := range []int{5, 240} {
		o := train.DefaultOptions()
		o.Label.Horizon = horizon
		r, err := train.WalkForward(t.Context(), f, schema(t, "v1.8.1"), o)
		if err != nil {
			t.Fatal(err)
		}
		d := train.NewDataset(f, o.Label, schema(t, "v1.8.1"), o.Also...)
		for i, fold := range r.Folds {
			if got, want := fold.TrainRows, d.From(fold.TrainTo)-max(15, horizon)-d.From(fold.TrainFrom); got != want {
				t.Errorf("horizon %d, fold %d: trained on %d rows, want %d", horizon, i, got, want)
			}
			last := d.Minute[d.From(fold.TrainFrom)+fold.TrainRows-1]
			if end := f.End(last) + int64(horizon)*60_000; end > int64(fold.TestFrom)*86_400_000 {
				t.Errorf("horizon %d, fold %d: the last label looks %d ms into the test", horizon, i, end-int64(fold.TestFrom)*86_400_000)
			}
		}
	}
}
