package plots_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/plots"
)

// sample is rows whose scores are calibrated probabilities.
func sample(seed uint64, days, perDay int) eval.Sample {
	rng := rand.New(rand.NewPCG(seed, 0))
	var s eval.Sample
	for day := range days {
		for range perDay {
			score := rng.Float64() * rng.Float64()
			s.Scores = append(s.Scores, score)
			s.Labels = append(s.Labels, rng.Float64() < score)
			s.Days = append(s.Days, 19_000+day)
		}
	}
	return s
}

func report(t *testing.T) *eval.Report {
	t.Helper()
	var folds []eval.Fold
	for i := range 3 {
		s := sample(uint64(i), 7, 60)
		for j := range s.Days {
			s.Days[j] += 7 * i
		}
		first := 19_000 + 7*i
		folds = append(folds, eval.Fold{TrainFrom: first - 28, TrainTo: first, TestFrom: first, TestTo: first + 7, Sample: s})
	}
	calm := eval.Sample{Scores: []float64{.1}, Labels: []bool{false}, Days: []int{19_021}}
	folds = append(folds, eval.Fold{TestFrom: 19_021, TestTo: 19_022, Sample: calm})
	b := eval.DefaultBootstrap()
	b.Replicates = 100
	r, err := eval.NewReport(folds, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reading() drift.FeatureReading {
	return drift.FeatureReading{
		Feature: "spread_bp",
		Reading: drift.Reading{
			PSI: 0.412, Status: drift.Critical, Samples: 12_345, Noise: &drift.Noise{Expected: 0.05, Q95: 0.12, Q99: 0.187},
			Threshold: 0.3, Verdict: gate.Fail, Reason: "too high",
		},
		Bins: []drift.BinReading{
			{Bin: "q1", Range: "<= 0.5", Reference: 0.3, Current: 0.1, PSI: 0.22},
			{Bin: "q2", Range: "> 0.5", Reference: 0.3, Current: 0.4, PSI: 0.029},
			{Bin: "v1", Range: "= 0", Reference: 0.4, Current: 0.5, PSI: 0.022},
			{Bin: "missing", Range: "missing"},
			{Bin: "out_of_domain", Range: "out of domain"},
		},
	}
}

// figures are one of each, with what a reader must find in it.
func figures(t *testing.T) []struct {
	name  string
	write func(io.Writer) error
	texts []string
} {
	s, o := sample(1, 10, 100), sample(2, 10, 100)
	r := report(t)
	return []struct {
		name  string
		write func(io.Writer) error
		texts []string
	}{
		{
			"roc",
			func(w io.Writer) error {
				return plots.ROC(w, "x on y", s.Labels, plots.Scorer{Name: "model", Scores: s.Scores}, plots.Scorer{Name: "baseline", Scores: o.Scores})
			},
			[]string{"ROC curve: x on y", "n = 1,000 rows, base rate 0.2", "False positive rate", "True positive rate", "model, AUC 0.", "baseline, AUC 0.", "chance"},
		},
		{
			"reliability",
			func(w io.Writer) error { return plots.Reliability(w, "x on y", eval.Reliability(s.Scores, s.Labels)) },
			[]string{"Reliability: x on y", "n = 1,000 rows, expected calibration error 0.0", "Observed rate", "Score (predicted probability", "Rows", "calibrated"},
		},
		{
			"scores",
			func(w io.Writer) error { return plots.Scores(w, "x on y", s.Scores, s.Labels) },
			[]string{"Scores by class: x on y", "n = 1,000 rows", "Share of the class in the bin (%)", "no move, n = 7", "move, n = 2"},
		},
		{
			"psi",
			func(w io.Writer) error { return plots.PSI(w, "x on y", reading()) },
			[]string{"Drift of spread_bp: x on y", "PSI 0.412 (critical), threshold 0.3, 99 % quantile without drift 0.187: FAIL; n = 12,345 rows", "Share of rows (%)", "&lt;= 0.5", "0.220", "reference (training)", "present"},
		},
		{
			"folds",
			func(w io.Writer) error { return plots.Folds(w, "x on y", r) },
			[]string{"fold by fold: x on y", "n = 1,261 rows in 4 folds", "95 % intervals by bootstrap of whole days", "AUC", "P@20", "2022-01-08", "pooled, 0.", "base rate of the fold", "chance", "not measured"},
		},
	}
}

func TestFigures(t *testing.T) {
	dir := os.Getenv("GREENLIGHT_PLOTS") // a folder to look at them
	for _, f := range figures(t) {
		t.Run(f.name, func(t *testing.T) {
			var first, second bytes.Buffer
			if err := f.write(&first); err != nil {
				t.Fatal(err)
			}
			if err := f.write(&second); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Error("the same numbers gave other bytes")
			}
			for _, text := range f.texts {
				if !strings.Contains(first.String(), text) {
					t.Errorf("no %q in the figure", text)
				}
			}
			for _, not := range []string{"<script", "NaN", "Inf", "href=\"http"} {
				if strings.Contains(first.String(), not) {
					t.Errorf("%q in the figure", not)
				}
			}
			d := xml.NewDecoder(bytes.NewReader(first.Bytes()))
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("not XML: %v", err)
				}
			}
			if dir != "" {
				if err := os.WriteFile(filepath.Join(dir, f.name+".svg"), first.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type failing struct{}

var errDisk = errors.New("disk full")

func (failing) Write([]byte) (int, error) { return 0, errDisk }

func TestFiguresPassOnTheWritersError(t *testing.T) {
	for _, f := range figures(t) {
		if err := f.write(failing{}); !errors.Is(err, errDisk) {
			t.Errorf("%s: got %v, want %v", f.name, err, errDisk)
		}
	}
}

func TestNothingToPlot(t *testing.T) {
	one := []bool{true, true}
	tests := []struct {
		name    string
		write   func(io.Writer) error
		is      error
		mention string
	}{
		{"no scorer", func(w io.Writer) error { return plots.ROC(w, "", one) }, plots.ErrNothing, "0 scorers"},
		{"one class", func(w io.Writer) error { return plots.ROC(w, "", one, plots.Scorer{"m", []float64{.1, .2}}) }, eval.ErrOneClass, "ROC curve of m"},
		{"scores missing", func(w io.Writer) error { return plots.ROC(w, "", one, plots.Scorer{"m", []float64{.1}}) }, nil, "1 scores but 2 labels"},
		{"empty bins", func(w io.Writer) error { return plots.Reliability(w, "", eval.Reliability(nil, nil)) }, plots.ErrNothing, "10 bins"},
		{"no scores", func(w io.Writer) error { return plots.Scores(w, "", nil, nil) }, plots.ErrNothing, "no scores"},
		{"wrong score", func(w io.Writer) error { return plots.Scores(w, "", []float64{2, 0}, one) }, nil, "score 2 of row 0"},
		{"labels missing", func(w io.Writer) error { return plots.Scores(w, "", []float64{.1}, one) }, nil, "1 scores but 2 labels"},
		{"no bins", func(w io.Writer) error { return plots.PSI(w, "", drift.FeatureReading{Feature: "mid"}) }, plots.ErrNothing, "mid"},
		{"no folds", func(w io.Writer) error { return plots.Folds(w, "", &eval.Report{}) }, plots.ErrNothing, "0 folds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w bytes.Buffer
			err := tt.write(&w)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want %v that mentions %q", err, tt.is, tt.mention)
			}
			if w.Len() != 0 {
				t.Errorf("%d bytes were written", w.Len())
			}
		})
	}
}

// Few rows and days, one class, one bin: figures that are poor but there.
func TestPoorFigures(t *testing.T) {
	few := sample(1, 2, 30)
	r, err := eval.NewReport([]eval.Fold{{TestFrom: 19_000, TestTo: 19_002, Sample: few}}, eval.DefaultBootstrap())
	if err != nil {
		t.Fatal(err)
	}
	lone := reading()
	lone.Bins, lone.Noise = lone.Bins[2:3], nil
	for name, write := range map[string]func(io.Writer) error{
		"one fold, no intervals": func(w io.Writer) error { return plots.Folds(w, "", r) },
		"one bin":                func(w io.Writer) error { return plots.PSI(w, "", lone) },
		"one class":              func(w io.Writer) error { return plots.Scores(w, "", []float64{0, 1}, []bool{true, true}) },
		"one row":                func(w io.Writer) error { return plots.Reliability(w, "", eval.Reliability([]float64{1}, []bool{true})) },
	} {
		var w bytes.Buffer
		if err := write(&w); err != nil || strings.Contains(w.String(), "NaN") {
			t.Errorf("%s: %v\n%s", name, err, w.String())
		}
	}
}
