package model_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// No name, version or link leads out of the registry: nothing outside is read or written.
func TestNothingLeavesTheRegistry(t *testing.T) {
	outside := enginetest.Registry(t, "v1.8.1", "good") // a complete model, test/good, that would load
	dir := enginetest.Registry(t, "v1.8.1", "own")
	r := model.OpenRegistry(dir)
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(outside, "test"), "linked")                      // a complete name
	link(filepath.Join(outside, "test", "good"), "test/good")           // one version
	link("../../"+filepath.Base(outside)+"/test/good", "test/relative") // the same, relative
	link("own", "test/same")                                            // within the registry
	entries, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Version != "own" && e.Version != "same" {
			t.Errorf("listed: %s", e)
		}
	}
	for _, ref := range []string{"linked/good", "test/good", "good", "test/relative", "../" + filepath.Base(outside) + "/test/good", "test/../test/own", "test/own/", "/test/own", "test\\own", ".", "..", "", "test", "test/own\x00"} {
		if a, err := r.Load(ref); err == nil {
			t.Errorf("load %q: got %s", ref, a.Digest())
		}
	}
	for _, e := range []model.Entry{
		{Name: "linked", Version: "good"},
		{Name: "test", Version: "good"},
		{Name: "..", Version: filepath.Base(outside)},
		{Name: "../" + filepath.Base(outside) + "/test", Version: "good"},
	} {
		if m, err := r.Manifest(e); err == nil {
			t.Errorf("manifest of %s: got %v", e, m)
		}
	}

	before := tree(t, outside)
	for _, e := range []model.Entry{
		{Name: "linked", Version: "new"},
		{Name: "test", Version: "good"},
		{Name: "test", Version: "../new"},
		{Name: "..", Version: "new"},
		{Name: "../x", Version: "new"},
		{Name: "a/b", Version: "new"},
		{Name: "test", Version: ".hidden"},
		{Name: "test", Version: ""},
	} {
		a := copyOf(t, "new")
		a.Manifest.Name, a.Manifest.Version = e.Name, e.Version
		if err := r.Add(a); err == nil {
			t.Errorf("add %s: got nil", e)
		}
		if err := r.Release(model.Entry{Name: "test", Version: "own"}, e.Version, model.Release{Record: []byte("{}")}); err == nil && e.Version != "new" {
			t.Errorf("release as %s: got nil", e.Version)
		}
	}
	if after := tree(t, outside); after != before {
		t.Errorf("outside: got %s, want %s", after, before)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("next to the registry: %v", err)
	}
}

// A model file that is a link to another folder is not read.
func TestFilesOfAModelStayInIt(t *testing.T) {
	dir := enginetest.Registry(t, "v1.8.1", "own")
	path := filepath.Join(dir, "test", "own", model.GoldenFile)
	elsewhere := filepath.Join(t.TempDir(), "golden.json")
	if err := errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := model.OpenRegistry(dir).Load("own"); err == nil {
		t.Error("a linked file was read")
	}
}

// A manifest that lists other files than a model's is refused.
func TestManifestListsOnlyItsFiles(t *testing.T) {
	dir := enginetest.Registry(t, "v1.8.1", "own")
	path := filepath.Join(dir, "test", "own", model.ManifestFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const files = `"files": {`
	at := bytes.Index(raw, []byte(files)) + len(files)
	put(t, path, append(append(append([]byte(nil), raw[:at]...), `"../../etc/passwd": "x", `...), raw[at:]...))
	if _, err := model.OpenRegistry(dir).Load("own"); err == nil {
		t.Error("got nil")
	}
}
