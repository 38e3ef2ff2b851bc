package model_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

const version = "v1.8.1-rc1"

// folder returns a valid model of schema v1.8.1 in its own registry.
func folder(t testing.TB) (registry, dir string) {
	t.Helper()
	registry = enginetest.Registry(t, "v1.8.1", version)
	return registry, filepath.Join(registry, "test", version)
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func write(t testing.TB, dir, name string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// edit changes one file as JSON: keys lead to the value to set.
func edit(t testing.TB, dir, name string, v any, keys ...string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(read(t, dir, name)))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		t.Fatal(err)
	}
	at := root
	for _, k := range keys[:len(keys)-1] {
		at = at[k].(map[string]any)
	}
	at[keys[len(keys)-1]] = v
	raw, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name, raw)
}

// seal makes the manifest match the files, as an attacker or a careless script would, so that the checks after the
// digests are reached.
func seal(t testing.TB, dir string) {
	t.Helper()
	sum := func(name string) string {
		s := sha256.Sum256(read(t, dir, name))
		return hex.EncodeToString(s[:])
	}
	edit(t, dir, model.ManifestFile, sum(model.ModelFile), "digest")
	edit(t, dir, model.ManifestFile, map[string]string{
		model.GoldenFile: sum(model.GoldenFile), model.BaselineFile: sum(model.BaselineFile),
	}, "files")
}
