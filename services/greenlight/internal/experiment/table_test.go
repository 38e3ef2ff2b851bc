package experiment_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

var tableStart = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)

// writeTable writes hourly rows for n days; change may edit the fields of a row: time, label, a, b.
func writeTable(t *testing.T, days int, change func(i int, fields []string)) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("time,y,a,b\n")
	for i := range days * 24 {
		a, y := rng.NormFloat64(), 0
		if a+rng.NormFloat64() > 0.5 {
			y = 1
		}
		fields := []string{tableStart.Add(time.Duration(i) * time.Hour).Format(time.RFC3339), fmt.Sprint(y), fmt.Sprint(a), fmt.Sprint(rng.NormFloat64())}
		if change != nil {
			change(i, fields)
		}
		b.WriteString(strings.Join(fields, ",") + "\n")
	}
	path := filepath.Join(t.TempDir(), "own.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func tableOptions(t *testing.T, path string, horizon time.Duration) experiment.TableOptions {
	t.Helper()
	s, err := feature.MakeSchema("own", "", horizon, []feature.Def{{Name: "a"}, {Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return experiment.TableOptions{Path: path, Schema: s, Label: "y", Time: "time", Horizon: horizon}
}

// The training rows are exactly those whose label does not overlap the test.
func TestTablePurge(t *testing.T) {
	for _, horizon := range []time.Duration{time.Minute, time.Hour, 5 * time.Hour, 30 * time.Hour} {
		o := tableOptions(t, writeTable(t, 40, nil), horizon)
		data, err := experiment.ReadTable(o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := experiment.RunTable(t.Context(), data, o.Schema, "own-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Candidates[0].Folds) < 3 {
			t.Fatalf("%d folds", len(s.Candidates[0].Folds))
		}
		for _, fold := range s.Candidates[0].Folds {
			want := 0
			test := time.Unix(int64(fold.TestFrom)*86400, 0)
			for i := range 40 * 24 {
				at := tableStart.Add(time.Duration(i) * time.Hour)
				if day := int(at.Unix() / 86400); day >= fold.TrainFrom && day < fold.TrainTo && !at.Add(horizon).After(test) {
					want++
				}
			}
			if fold.TrainRows != want {
				t.Errorf("horizon %v, test on day %d: trained on %d rows, want %d", horizon, fold.TestFrom, fold.TrainRows, want)
			}
		}
	}
}

// Register fails if a figure is missing, because the folder may still have the figure of an earlier report.
func TestRegisterWantsEveryFigure(t *testing.T) {
	o := tableOptions(t, writeTable(t, 40, nil), time.Hour)
	data, err := experiment.ReadTable(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := experiment.RunTable(t.Context(), data, o.Schema, "own-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err := evidence.Open(t.TempDir(), evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	c, registry := s.Candidates[0], model.OpenRegistry(t.TempDir())
	if _, _, err := s.Register(registry, store, c, "", tableStart); err != nil {
		t.Fatal(err)
	}
	c.Report.Reliability = nil
	if _, _, err := s.Register(registry, store, c, "", tableStart); !errors.Is(err, plots.ErrNothing) || !strings.Contains(err.Error(), "figure reliability") {
		t.Errorf("without bins: got %v, want %v", err, plots.ErrNothing)
	}
}

// The ranges of a model are the extremes of its training rows. With fewer than 2,000 rows, the quantiles lie between the two
// outermost values.
func TestTableRanges(t *testing.T) {
	type row struct {
		day    int
		values [2]float64
	}
	var all []row
	o := tableOptions(t, writeTable(t, 40, func(i int, fields []string) {
		at, err := time.Parse(time.RFC3339, fields[0])
		if err != nil {
			t.Fatal(err)
		}
		r := row{day: int(at.Unix() / 86400)}
		for k := range r.values {
			if r.values[k], err = strconv.ParseFloat(fields[2+k], 64); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, r)
	}), time.Hour)
	data, err := experiment.ReadTable(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := experiment.RunTable(t.Context(), data, o.Schema, "own-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Artifact(s.Candidates[0], "")
	if err != nil {
		t.Fatal(err)
	}
	fold := s.Candidates[0].Folds[len(s.Candidates[0].Folds)-1]
	for k, r := range a.Ranges() {
		if o.Schema.Features[k].Name == feature.Bias {
			if r.Low != 1 || r.High != 1 {
				t.Errorf("got %v", r)
			}
			continue
		}
		var x []float64
		for _, row := range all {
			if row.day >= fold.TrainFrom && row.day < fold.TrainTo {
				x = append(x, row.values[map[string]int{"a": 0, "b": 1}[r.Name]])
			}
		}
		slices.Sort(x)
		n := len(x)
		share := float64(n-1) / 2000
		low, high := x[0]+share*(x[1]-x[0]), x[n-1]-share*(x[n-1]-x[n-2])
		if n < 100 || n >= 2000 || !(math.Abs(r.Low-low) <= 1e-9) || !(math.Abs(r.High-high) <= 1e-9) {
			t.Errorf("of %d rows: got %v, want %v to %v", n, r, low, high)
		}
	}
	if len(a.Ranges()) != o.Schema.Len() {
		t.Errorf("got %d ranges, want %d", len(a.Ranges()), o.Schema.Len())
	}
}

// Rows without a value are left out and counted. If there are too many, the verdict is not PASS.
func TestTableRowsLeftOut(t *testing.T) {
	for every, want := range map[int]gate.Verdict{10: gate.Pass, 3: gate.Inconclusive} {
		o := tableOptions(t, writeTable(t, 40, func(i int, fields []string) {
			if i%every == 0 {
				fields[2+i/every%2] = ""
			}
		}), time.Hour)
		data, err := experiment.ReadTable(o)
		if err != nil {
			t.Fatal(err)
		}
		n := (40*24 + every - 1) / every
		if got := data.Table.Info; got.LeftOut != n || data.Table.Len() != 40*24-n || data.Dropped["a feature is missing"] != n {
			t.Errorf("got %+v, %v, want %d left out", got, data.Dropped, n)
		}
		s, err := experiment.RunTable(t.Context(), data, o.Schema, "own-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Offline(s.Candidates[0], time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range r.Judge().Results {
			if check.Name == gate.TableLeftOut && check.Verdict != want {
				t.Errorf("one of %d rows is left out: got %s, want %s", every, check.Verdict, want)
			}
		}
	}
}

func TestTableRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(i int, fields []string)
		edit   func(*experiment.TableOptions)
		want   string
	}{
		"other label":   {func(i int, f []string) { f[1] = "2" }, nil, `the label "y" is 2 in row 1: want 1 or 0`},
		"same time":     {func(i int, f []string) { f[0] = "2024-03-01" }, nil, "--group"},
		"no values":     {func(i int, f []string) { f[2] = "" }, nil, "no row has all features and a label"},
		"label inside":  {nil, func(o *experiment.TableOptions) { o.Label = "a" }, "also a feature"},
		"absent column": {nil, func(o *experiment.TableOptions) { o.Time = "t" }, "no column t; it has time, y, a, b"},
	} {
		o := tableOptions(t, writeTable(t, 2, tt.change), time.Hour)
		if tt.edit != nil {
			tt.edit(&o)
		}
		if _, err := experiment.ReadTable(o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that mentions %q", name, err, tt.want)
		}
	}
}
