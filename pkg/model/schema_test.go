package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// A custom schema travels with the model, and the model's digest covers it.
func TestOwnSchemaInTheArtifact(t *testing.T) {
	own := enginetest.Own(t, "desk", 3)
	own.Features[1].Domain = &[2]float64{-1, 1}
	dir := enginetest.RegistryOf(t, own, "own-1")
	registry := model.OpenRegistry(dir)
	a, err := registry.Load("own-1")
	if err != nil {
		t.Fatal(err)
	}
	if a.Schema.Hash() != own.Hash() || a.Schema.Name != "desk" || *a.Schema.Features[1].Domain != [2]float64{-1, 1} || a.Schema.Horizon != own.Horizon {
		t.Errorf("got %+v, want %+v", a.Schema, own)
	}
	if err := registry.Release(model.Entry{Name: "test", Version: "own-1"}, "own", model.Release{Record: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	if b, err := registry.Load("own"); err != nil || b.Digest() != a.Digest() || b.Schema.Hash() != own.Hash() {
		t.Errorf("the release: got %v, %v", b, err)
	}
	path := filepath.Join(dir, "test", "own-1", model.SchemaFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), "-1", "-2", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Load("own-1"); err == nil || !strings.Contains(err.Error(), "schema.json has the digest") {
		t.Errorf("a changed domain: got %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Load("own-1"); err == nil {
		t.Error("a model without its schema was loaded")
	}
}

// A built-in schema has no file, so models of older versions keep their digests.
func TestBuiltInSchemaHasNoFile(t *testing.T) {
	dir := enginetest.Registry(t, feature.DefaultSchema, "v")
	if _, err := os.Stat(filepath.Join(dir, "test", "v", model.SchemaFile)); !os.IsNotExist(err) {
		t.Errorf("got %v, want no schema.json", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "test", "v", model.ModelFile))
	if err != nil || strings.Contains(string(raw), "schema_sha256") {
		t.Errorf("got %s, %v", raw, err)
	}
}

// If there are many features, the most important are watched, in schema order, and their weights add up to 1.
func TestWatchedOfManyFeatures(t *testing.T) {
	a := enginetest.ArtifactOf(t, enginetest.Own(t, "wide", 1000), "own-1")
	names, weights := model.Watched(a.Scorer, a.Schema)
	sum, least, last := 0.0, 1.0, -1
	for _, name := range names {
		if at := a.Schema.Index(name); at > last {
			last = at
		} else {
			t.Errorf("%s is out of order", name)
		}
		sum += weights[name]
		least = min(least, weights[name])
	}
	if len(names) != drift.MaxWatched || sum < 0.999999 || sum > 1.000001 {
		t.Errorf("got %d features of weight %v, want %d of 1", len(names), sum, drift.MaxWatched)
	}
	all, total := model.Importance(a.Scorer, a.Schema), 0.0
	for _, name := range names {
		total += all[name]
	}
	for name, w := range all {
		if _, watched := weights[name]; !watched && w/total > least {
			t.Errorf("%s has the weight %v and is not watched; %v is", name, w/total, least)
		}
	}
}
