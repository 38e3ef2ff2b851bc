package model_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

const releasedVersion = "v1.8.1"

var (
	candidate = model.Entry{Name: "test", Version: version}
	why       = model.Release{
		Time: time.Date(2026, 9, 1, 12, 30, 0, 0, time.UTC), Record: json.RawMessage(`{"psi":0.14,"phrase":"p95<80ms"}`),
	}
)

func TestReleaseIsTheSameModel(t *testing.T) {
	t.Parallel()
	root, dir := folder(t)
	r := model.OpenRegistry(root)
	if err := r.Release(candidate, releasedVersion, why); err != nil {
		t.Fatal(err)
	}
	before, err := r.Load(version)
	if err != nil {
		t.Fatal(err)
	}
	after, err := r.Load(releasedVersion)
	if err != nil {
		t.Fatal(err)
	}
	if before.Release != nil {
		t.Errorf("the candidate became a release: %+v", before.Release)
	}
	if after.Digest() != before.Digest() || after.Manifest.Version != releasedVersion {
		t.Errorf("got %s with digest %.12s, want %s with %.12s", after.Manifest.Version, after.Digest(), releasedVersion, before.Digest())
	}
	var record struct {
		PSI    float64 `json:"psi"`
		Phrase string  `json:"phrase"`
	}
	if got := after.Release; got == nil || got.From != version || !got.Time.Equal(why.Time) {
		t.Errorf("release %+v, want from %s at %s", got, version, why.Time)
	} else if err := json.Unmarshal(got.Record, &record); err != nil || record.PSI != 0.14 || record.Phrase != "p95<80ms" {
		t.Errorf("record %s (%v)", got.Record, err)
	}
	for _, name := range []string{model.ModelFile, model.BaselineFile, model.GoldenFile, model.ReferenceFile} {
		if !bytes.Equal(read(t, filepath.Join(root, "test", releasedVersion), name), read(t, dir, name)) {
			t.Errorf("%s differs from the candidate's", name)
		}
	}
}

// A tree model takes its ensemble along, and a release of a release names its source.
func TestReleaseOfTrees(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "trees", "testdata", "lightgbm_market.txt"))
	if err != nil {
		t.Fatal(err)
	}
	schema, _ := feature.Lookup("v1.8.1")
	a := copyOf(t, "lgbm-1")
	if a.Spec, _, err = model.NewTrees(raw, schema, a.Spec.Label, false); err != nil {
		t.Fatal(err)
	}
	a.Ensemble = raw
	if err := a.Open(); err != nil {
		t.Fatal(err)
	}
	for i, g := range a.Golden.Vectors {
		a.Golden.Vectors[i].Score = a.Scorer.Score(g.X)
	}
	r := model.OpenRegistry(t.TempDir())
	if err := errors.Join(r.Add(a), r.Release(model.Entry{Name: "test", Version: "lgbm-1"}, "v2", why),
		r.Release(model.Entry{Name: "test", Version: "v2"}, "v3", why)); err != nil {
		t.Fatal(err)
	}
	got, err := r.Load("v3")
	if err != nil || got.Release == nil || got.Release.From != "v2" || !bytes.Equal(got.Ensemble, raw) {
		t.Errorf("got %+v (%v), want the trees, released from v2", got, err)
	}
}

func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(t *testing.T, root, dir string)
		entry   model.Entry
		version string
		want    string
	}{
		"version leaves":    {nil, candidate, "../v1", "version"},
		"no such model":     {nil, model.Entry{Name: "test", Version: "v0"}, releasedVersion, "no model"},
		"onto itself":       {nil, candidate, version, model.ErrExists.Error()},
		"a damaged model":   {func(t *testing.T, _, dir string) { write(t, dir, model.ModelFile, []byte("{}")) }, candidate, releasedVersion, "digest"},
		"a missing profile": {func(t *testing.T, _, dir string) { remove(t, dir, model.ReferenceFile) }, candidate, releasedVersion, "no such file"},
		"a taken version": {func(t *testing.T, root, _ string) {
			if err := model.OpenRegistry(root).Add(moved(t, releasedVersion)); err != nil {
				t.Fatal(err)
			}
		}, candidate, releasedVersion, model.ErrExists.Error()},
	} {
		root, dir := folder(t)
		if test.prepare != nil {
			test.prepare(t, root, dir)
		}
		before := tree(t, root)
		err := model.OpenRegistry(root).Release(test.entry, test.version, why)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if after := tree(t, root); after != before {
			t.Errorf("%s: the registry was\n%s\nand is\n%s", name, before, after)
		}
	}
}

func TestReleaseIsOnce(t *testing.T) {
	t.Parallel()
	root, _ := folder(t)
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = model.OpenRegistry(root).Release(candidate, releasedVersion, why) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, model.ErrExists) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d releases went through, want 1", won)
	}
}

func TestDamagedReleaseIsNotLoaded(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string){
		"changed": func(t *testing.T, dir string) { edit(t, dir, model.ReleaseFile, "v9", "from") },
		"missing": func(t *testing.T, dir string) { remove(t, dir, model.ReleaseFile) },
	} {
		root, _ := folder(t)
		r := model.OpenRegistry(root)
		if err := r.Release(candidate, releasedVersion, why); err != nil {
			t.Fatal(err)
		}
		damage(t, filepath.Join(root, "test", releasedVersion))
		if _, err := r.Load(releasedVersion); err == nil || !strings.Contains(err.Error(), model.ReleaseFile) {
			t.Errorf("%s: %v, want an error about %s", name, err, model.ReleaseFile)
		}
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// tree returns the names of everything in the folder.
func tree(t *testing.T, root string) string {
	t.Helper()
	var names strings.Builder
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		names.WriteString(path + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names.String()
}
