package model_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

func TestSaveAndLoadAreTheSame(t *testing.T) {
	_, dir := folder(t)
	first, err := model.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	again := *first
	copied := t.TempDir()
	if err := model.OpenRegistry(copied).Add(&again); err != nil {
		t.Fatal(err)
	}
	second, err := model.OpenRegistry(copied).Load("test/" + version)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("got %+v, want %+v", second, first)
	}
	for _, name := range []string{model.ModelFile, model.GoldenFile, model.BaselineFile, model.ManifestFile} {
		if got, want := read(t, filepath.Join(copied, "test", version), name), read(t, dir, name); !bytes.Equal(got, want) {
			t.Errorf("%s differs after a round trip:\n%s\n%s", name, got, want)
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		x := enginetest.Vector(rng, first.Schema)
		if got, want := second.Scorer.Score(x), first.Scorer.Score(x); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("score of %v: got %v, want %v", x, got, want)
		}
	}
	sum := sha256.Sum256(read(t, dir, model.ModelFile))
	if got, want := first.Digest(), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest: got %s, want that of the file, %s", got, want)
	}
}

// A model's ranges must match the features of its schema. Models of older versions have none, and keep their digests.
func TestRanges(t *testing.T) {
	fresh := func() *model.Artifact { return enginetest.Artifact(t, "v1.8.1", version) }
	all := fresh().Ranges()
	for _, tt := range []struct {
		name   string
		ranges []drift.Range
		err    string
	}{
		{"all", all, ""},
		{"none", nil, ""},
		{"one fewer", all[1:], "reference.json: ranges of "},
		{"another order", slices.Concat(all[1:], all[:1]), "do not match schema v1.8.1"},
		{"descending", append([]drift.Range{{Name: all[0].Name, Low: 2, High: 1}}, all[1:]...), "from 2 to 1"},
	} {
		registry, dir := folder(t)
		edit(t, dir, model.ReferenceFile, tt.ranges, "ranges")
		sum := sha256.Sum256(read(t, dir, model.ReferenceFile))
		edit(t, dir, model.ManifestFile, hex.EncodeToString(sum[:]), "files", model.ReferenceFile)
		a, err := model.OpenRegistry(registry).Load(version)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want an error that mentions %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || !slices.Equal(a.Ranges(), tt.ranges) || a.Digest() != fresh().Digest() {
			t.Errorf("%s: got %v, %v", tt.name, a, err)
		}
	}
	for _, change := range []func(*model.Artifact){
		func(a *model.Artifact) { a.Reference.Ranges = nil }, func(a *model.Artifact) { a.Reference = nil },
	} {
		a := fresh()
		change(a)
		r := model.OpenRegistry(t.TempDir())
		if err := r.Add(a); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Load(version); err != nil || got.Ranges() != nil || got.Digest() != fresh().Digest() {
			t.Errorf("without ranges: got %v, %v", got, err)
		}
	}
}

func TestDamageIsRefused(t *testing.T) {
	type damage struct {
		do   func(t *testing.T, dir string)
		want string // part of the message
	}
	cut := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { raw := read(t, dir, name); write(t, dir, name, raw[:len(raw)/2]) }
	}
	flip := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			raw := read(t, dir, name)
			i := bytes.LastIndexAny(raw, "123456789")
			raw[i]--
			write(t, dir, name, raw)
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sealed := func(name string, v any, keys ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { edit(t, dir, name, v, keys...); seal(t, dir) }
	}
	replace := func(name, old, with string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			raw := read(t, dir, name)
			if !bytes.Contains(raw, []byte(old)) {
				t.Fatalf("%s has no %q", name, old)
			}
			write(t, dir, name, bytes.Replace(raw, []byte(old), []byte(with), 1))
			seal(t, dir)
		}
	}
	v18, _ := feature.Lookup("v1.8")
	for name, d := range map[string]damage{
		"model cut":            {cut(model.ModelFile), "model.json has the digest"},
		"model changed":        {flip(model.ModelFile), "the file was changed or is damaged"},
		"golden changed":       {flip(model.GoldenFile), "golden.json has the digest"},
		"baseline changed":     {flip(model.BaselineFile), "baseline.json has the digest"},
		"manifest cut":         {cut(model.ManifestFile), "manifest.json: unexpected EOF"},
		"manifest empty":       {func(t *testing.T, dir string) { write(t, dir, model.ManifestFile, nil) }, "manifest.json: EOF"},
		"no model":             {remove(model.ModelFile), "model.json: no such file"},
		"no golden":            {remove(model.GoldenFile), "golden.json: no such file"},
		"no baseline":          {remove(model.BaselineFile), "baseline.json: no such file"},
		"no manifest":          {remove(model.ManifestFile), "manifest.json: no such file"},
		"no folder":            {func(t *testing.T, dir string) { _ = os.RemoveAll(dir) }, "no such file"},
		"unknown key":          {sealed(model.ModelFile, 1, "wieght"), `model.json: json: unknown field "wieght"`},
		"unknown manifest key": {func(t *testing.T, dir string) { edit(t, dir, model.ManifestFile, 1, "diggest") }, `unknown field "diggest"`},
		"two values": {func(t *testing.T, dir string) {
			write(t, dir, model.GoldenFile, append(read(t, dir, model.GoldenFile), "{}"...))
			seal(t, dir)
		}, "more than one JSON value"},
		"other format":          {sealed(model.ModelFile, "greenlight/model/v2", "format"), `format "greenlight/model/v2"`},
		"other manifest format": {func(t *testing.T, dir string) { edit(t, dir, model.ManifestFile, "x", "format") }, `manifest.json: format "x"`},
		"other baseline format": {sealed(model.BaselineFile, "x", "format"), `baseline.json: format "x"`},
		"unknown schema":        {sealed(model.ModelFile, "v9", "schema"), `unknown feature schema "v9"`},
		"other schema":          {sealed(model.ModelFile, "v1.8", "schema"), "the meaning of a feature has changed"},
		"other schema, its hash": {func(t *testing.T, dir string) {
			edit(t, dir, model.ModelFile, "v1.8", "schema")
			edit(t, dir, model.ModelFile, v18.Hash(), "schema_hash")
			seal(t, dir)
		}, "do not match schema v1.8"},
		"schema hash":            {sealed(model.ModelFile, strings.Repeat("0", 64), "schema_hash"), "the meaning of a feature has changed"},
		"other family":           {sealed(model.ModelFile, "forest", "family"), `family "forest"`},
		"no parameters":          {sealed(model.ModelFile, nil, "logistic"), "with only the parameters"},
		"weight is NaN":          {replace(model.ModelFile, `"weight": [`+"\n      ", `"weight": [NaN, `), "invalid character 'N'"},
		"weight is too large":    {replace(model.ModelFile, `"weight": [`+"\n      ", `"weight": [1e999, `), "cannot unmarshal number 1e999"},
		"weight is null":         {sealed(model.ModelFile, []any{0, nil, 0, 0, 0, 0, 0}, "logistic", "weight"), "golden.json: vector 0 scores"},
		"a weight too few":       {sealed(model.ModelFile, []any{1}, "logistic", "weight"), "7 features but 7 means, 7 sds, 1 weights"},
		"scale is 0":             {sealed(model.ModelFile, []any{1, 0, 1, 1, 1, 1, 1}, "logistic", "sd"), "sd 0: want a finite number > 0"},
		"scale is negative":      {sealed(model.ModelFile, []any{1, -1, 1, 1, 1, 1, 1}, "logistic", "sd"), "sd -1: want a finite number > 0"},
		"clip is 0":              {sealed(model.ModelFile, 0, "logistic", "clip"), "clip 0"},
		"golden score":           {sealed(model.GoldenFile, []any{map[string]any{"x": []any{1, 0, 0, 0, 0, 0, 0}, "score": 0.5}}, "vectors"), "golden.json: vector 0 scores"},
		"golden score just off":  {sealed(model.ModelFile, -0.8+1e-10, "logistic", "intercept"), "golden.json: vector 0 scores"},
		"golden vector short":    {sealed(model.GoldenFile, []any{map[string]any{"x": []any{1}, "score": 0.5}}, "vectors"), "vector 0 has 1 values: want 7"},
		"no golden vectors":      {sealed(model.GoldenFile, []any{}, "vectors"), "nothing to check the scorer against"},
		"baseline of no feature": {sealed(model.BaselineFile, []any{"vol1m_log_rel", "spread_bp_rel", "rsi14_z", "moon_phase"}, "logistic", "features"), `unknown feature "moon_phase"`},
		"baseline version":       {sealed(model.BaselineFile, "../v1", "version"), `version "../v1"`},
		"baseline scale":         {sealed(model.BaselineFile, []any{1, 1, 1, 0}, "logistic", "sd"), "baseline.json: feature"},
		"name leaves":            {func(t *testing.T, dir string) { edit(t, dir, model.ManifestFile, "../test", "name") }, `name "../test"`},
		"version leaves":         {func(t *testing.T, dir string) { edit(t, dir, model.ManifestFile, "..", "version") }, `version ".."`},
		"link out of the folder": {func(t *testing.T, dir string) {
			outside := filepath.Join(t.TempDir(), "model.json")
			if err := errors.Join(os.Rename(filepath.Join(dir, model.ModelFile), outside), os.Symlink(outside, filepath.Join(dir, model.ModelFile))); err != nil {
				t.Fatal(err)
			}
		}, "path escapes from parent"},
		"file without end": {func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, model.GoldenFile), 64<<20+1); err != nil {
				t.Fatal(err)
			}
		}, "too large: over"},
	} {
		t.Run(name, func(t *testing.T) {
			registry, dir := folder(t)
			d.do(t, dir)
			if _, err := model.Load(dir); err == nil || !strings.Contains(err.Error(), d.want) {
				t.Errorf("Load: got %v, want %q in it", err, d.want)
			} else if !strings.Contains(err.Error(), dir) {
				t.Errorf("Load: %v does not name the folder", err)
			}
			if _, err := model.OpenRegistry(registry).Load(version); err == nil {
				t.Error("Registry.Load: got nil")
			}
			// A damaged model is neither repaired nor overwritten by adding it again. A missing folder is written
			// again.
			err := model.OpenRegistry(registry).Add(enginetest.Artifact(t, "v1.8.1", version))
			if name == "no folder" {
				if err != nil {
					t.Errorf("Add to an empty registry: got %v", err)
				}
			} else if err == nil || errors.Is(err, model.ErrExists) {
				t.Errorf("Add over damage: got %v, want what is damaged", err)
			}
		})
	}
}

// FuzzModelFile loads arbitrary content of model.json with a matching digest: it is refused, or it scores.
func FuzzModelFile(f *testing.F) {
	_, dir := folder(f)
	good := read(f, dir, model.ModelFile)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"logistic":{"features":["bias"],"sd":[1e-320]}}`))
	f.Add(bytes.Replace(good, []byte("0."), []byte("1e308"), 3))
	f.Fuzz(func(t *testing.T, raw []byte) {
		write(t, dir, model.ModelFile, raw)
		seal(t, dir)
		a, err := model.Load(dir)
		if err != nil {
			return
		}
		for _, g := range a.Golden.Vectors {
			if s := a.Scorer.Score(g.X); !(s >= 0 && s <= 1) {
				t.Errorf("a model that was loaded scores %v", s)
			}
		}
	})
}

// FuzzModelParts loads arbitrary content of a model's other files, with matching digests. It is refused, or it is the
// same model as before, and its release loads too.
func FuzzModelParts(f *testing.F) {
	registry, dir := folder(f)
	parts := []string{model.BaselineFile, model.GoldenFile, model.ReferenceFile, model.ManifestFile, model.ReleaseFile}
	good := map[string][]byte{}
	for i, name := range parts[:4] {
		good[name] = read(f, dir, name)
		f.Add(uint8(i), good[name])
	}
	f.Add(uint8(4), []byte(`{"format":"greenlight/release/v1","from":"v1-rc1","time":"2026-01-01T00:00:00Z","record":{"by":"x"}}`))
	f.Add(uint8(4), []byte(`{"format":"greenlight/release/v1","record":null}`))
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		for name, content := range good {
			write(t, dir, name, content)
		}
		_ = os.Remove(filepath.Join(dir, model.ReleaseFile))
		name := parts[int(which)%len(parts)]
		write(t, dir, name, raw)
		if name != model.ManifestFile {
			sums := map[string]string{}
			for _, n := range append(parts[:3:3], name) {
				sum := sha256.Sum256(read(t, dir, n))
				sums[n] = hex.EncodeToString(sum[:])
			}
			edit(t, dir, model.ManifestFile, sums, "files")
		}
		a, err := model.Load(dir)
		if err != nil {
			if a != nil {
				t.Fatalf("both a model and an error: %v", err)
			}
			return
		}
		for _, g := range a.Golden.Vectors {
			if s := a.Scorer.Score(g.X); !(math.Abs(s-g.Score) <= 1e-12) {
				t.Fatalf("scores %v, want %v", s, g.Score)
			}
		}
		if s := a.Baseline.Score(make([]float64, len(a.Baseline.Inputs()))); !(s >= 0 && s <= 1) {
			t.Fatalf("the baseline scores %v", s)
		}
		if a.Manifest.Name != "test" || a.Manifest.Version != version {
			return // belongs to another place in the registry
		}
		r := model.OpenRegistry(registry)
		if err := r.Release(model.Entry{Name: "test", Version: version}, "released", model.Release{Record: []byte(`{}`)}); err != nil {
			t.Fatalf("loads but cannot be released: %v", err)
		}
		released, err := r.Load("released")
		if err != nil || released.Digest() != a.Digest() {
			t.Fatalf("the release does not load: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(registry, "test", "released")); err != nil {
			t.Fatal(err)
		}
	})
}
