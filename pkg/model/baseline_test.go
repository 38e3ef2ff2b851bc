package model_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// The baseline in a model's folder is the same whether it is loaded alone or with its model.
func TestBaselineAloneAndWithItsModel(t *testing.T) {
	_, dir := folder(t)
	a, err := model.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := model.LoadBaseline(filepath.Join(dir, model.BaselineFile))
	if err != nil {
		t.Fatal(err)
	}
	if b.Digest() != a.Baseline.Digest() || b.Digest() != a.Manifest.Files[model.BaselineFile] || len(b.Digest()) != 64 {
		t.Errorf("digest: got %s, want %s", b.Digest(), a.Manifest.Files[model.BaselineFile])
	}
	made, err := model.NewBaseline(b.Version, b.Logistic)
	if err != nil || made.Digest() != b.Digest() {
		t.Errorf("made again: got %v, digest %s; want %s", err, made.Digest(), b.Digest())
	}
	if !slices.Equal(b.Inputs(), feature.BaselineInputs()) {
		t.Errorf("inputs: got %v", b.Inputs())
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		x := []float64{rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()}
		if got, want := b.Score(x), a.Baseline.Score(x); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("score of %v: got %v, want %v", x, got, want)
		}
	}
}

func TestLoadBaselineRefuses(t *testing.T) {
	_, dir := folder(t)
	good := string(read(t, dir, model.BaselineFile))
	for name, tt := range map[string]struct{ content, want string }{
		"empty":           {"", "EOF"},
		"cut":             {good[:len(good)/2], "unexpected EOF"},
		"unknown key":     {strings.Replace(good, `"version"`, `"ver"`, 1), `unknown field "ver"`},
		"other format":    {strings.Replace(good, "baseline/v1", "baseline/v2", 1), `format "greenlight/baseline/v2"`},
		"unknown feature": {strings.Replace(good, "rsi14_z", "rsi15_z", 1), `unknown feature "rsi15_z"`},
		"a model":         {string(read(t, dir, model.ModelFile)), "unknown field"},
	} {
		path := filepath.Join(t.TempDir(), "b.json")
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := model.LoadBaseline(path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
	for _, path := range []string{filepath.Join(dir, "no.json"), filepath.Join(dir, "no", "baseline.json"), dir} {
		if _, err := model.LoadBaseline(path); err == nil || !strings.HasPrefix(err.Error(), "baseline "+path+": ") {
			t.Errorf("%s: got %v, want an error that names it", path, err)
		}
	}
}

func TestNewBaselineRefuses(t *testing.T) {
	good := twoInputs()
	if _, err := model.NewBaseline("v 1", good); err == nil {
		t.Error("a version with a blank: got nil")
	}
	good.Features = []string{"bias", "no_such"}
	if _, err := model.NewBaseline("v1", good); err == nil {
		t.Error("an unknown feature: got nil")
	}
}
