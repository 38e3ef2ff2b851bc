package trees

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// vectors are rows with the library's own predictions.
type vectors struct {
	names      []string
	x          [][]float64
	raw, score []float64
}

func readVectors(t testing.TB, path string) vectors {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%s: %d lines, %v", path, len(lines), err)
	}
	var v vectors
	n := len(lines[0]) - 2
	v.names = lines[0][:n]
	for _, line := range lines[1:] {
		row := make([]float64, len(line))
		for i, cell := range line {
			if row[i], err = strconv.ParseFloat(cell, 64); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
		v.x, v.raw, v.score = append(v.x, row[:n]), append(v.raw, row[n]), append(v.score, row[n+1])
	}
	return v
}

// models returns the files of testdata, each with vectors from the library that made it.
func models(t testing.TB) []string {
	t.Helper()
	text, _ := filepath.Glob("testdata/*.txt")
	json, _ := filepath.Glob("testdata/*.json")
	binary, _ := filepath.Glob("testdata/*.ubj")
	all := slices.Concat(text, json, binary)
	if len(all) < 17 || len(binary) == 0 {
		t.Fatalf("%d models in testdata: %v", len(all), all)
	}
	return all
}

func readModel(t testing.TB, path string) *Ensemble {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	e, err := Import(path, f)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The margin equals the library's, bit for bit: a wrong leaf, order or width of the sum would show. The score is equal
// within the last bit of exp.
func TestLibraryPredictions(t *testing.T) {
	for _, path := range models(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			e := readModel(t, path)
			stem, _, _ := strings.Cut(path, ".")
			v := readVectors(t, stem+".csv")
			if !slices.Equal(e.FeatureNames(), v.names) {
				t.Fatalf("features %v, want %v", e.FeatureNames(), v.names)
			}
			margins := map[float64]bool{}
			for i, x := range v.x {
				raw := v.raw[i]
				if e.average { // raw_score=True does not divide; predict does.
					raw /= float64(e.Trees())
				}
				got := e.Margin(x)
				margins[got] = true
				if got != raw {
					t.Errorf("row %d: margin %v, want %v", i, got, raw)
				}
				tolerance := 4e-16
				if e.Format() == XGBoost {
					tolerance = 6e-8
				}
				if s := e.Score(x); !(math.Abs(s-v.score[i]) <= tolerance) {
					t.Errorf("row %d: score %v, want %v: off by %g", i, s, v.score[i], s-v.score[i])
				}
			}
			if len(margins) < 2 && !strings.Contains(path, "leaf") {
				t.Errorf("every row has the margin %v: nothing was tested", margins)
			}
			t.Logf("%d trees, %d nodes, %d rows, %d different margins", e.Trees(), len(e.nodes), len(v.x), len(margins))
		})
	}
}
