package model_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// copyOf returns a model of the version that can be changed.
func copyOf(t *testing.T, version string) *model.Artifact {
	t.Helper()
	a := enginetest.Artifact(t, "v1.8.1", version)
	formula := *a.Spec.Logistic
	a.Spec.Logistic = &formula
	return a
}

// moved returns another model with the same version: its intercept, and so its golden scores, differ.
func moved(t *testing.T, version string) *model.Artifact {
	a := copyOf(t, version)
	a.Spec.Logistic.Intercept += 0.25
	for i, g := range a.Golden.Vectors {
		a.Golden.Vectors[i].Score = a.Spec.Logistic.Score(g.X)
	}
	return a
}

func TestAddIsOnce(t *testing.T) {
	root := t.TempDir()
	r := model.OpenRegistry(root)
	if err := r.Add(copyOf(t, version)); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(copyOf(t, version)); err != nil {
		t.Errorf("the same model again: got %v, want nil", err)
	}
	if err := r.Add(moved(t, version)); !errors.Is(err, model.ErrExists) {
		t.Errorf("another model under the same version: got %v, want ErrExists", err)
	}
	otherBaseline := copyOf(t, version)
	formula := otherBaseline.Baseline.Logistic
	formula.Intercept++
	b, err := model.NewBaseline("heuristic-test", formula)
	if err != nil {
		t.Fatal(err)
	}
	otherBaseline.Baseline = b
	if err := r.Add(otherBaseline); !errors.Is(err, model.ErrExists) {
		t.Errorf("the same model with another baseline: got %v, want ErrExists", err)
	}
	if err := r.Add(moved(t, "v1.8.1-rc2")); err != nil {
		t.Errorf("another model under another version: got %v, want nil", err)
	}
	a, err := r.Load(version)
	if err != nil || a.Digest() != copyOf(t, version).Digest() {
		t.Errorf("after all that: got %v, want the first model", err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "*", ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Several processes add at once: one model wins, and only those with a different model get an error.
func TestAddAtOnce(t *testing.T) {
	r := model.OpenRegistry(t.TempDir())
	same := make([]*model.Artifact, 4)
	for i := range same {
		same[i] = copyOf(t, version)
	}
	other := moved(t, version)
	var wg sync.WaitGroup
	errs := make([]error, len(same))
	var otherErr error
	for i, a := range same {
		wg.Go(func() { errs[i] = r.Add(a) })
	}
	wg.Go(func() { otherErr = r.Add(other) })
	wg.Wait()
	winner, err := r.Load(version)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range slices.Concat(errs, []error{otherErr}) {
		mine := i < len(same) == (winner.Digest() == same[0].Digest())
		if mine && err != nil || !mine && !errors.Is(err, model.ErrExists) {
			t.Errorf("adder %d (the winner is its model: %v): got %v", i, mine, err)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*model.Artifact)
		want   string
	}{
		"empty name":       {func(a *model.Artifact) { a.Manifest.Name = "" }, `name ""`},
		"name leaves":      {func(a *model.Artifact) { a.Manifest.Name = "../x" }, `name "../x"`},
		"hidden name":      {func(a *model.Artifact) { a.Manifest.Name = ".x" }, `name ".x"`},
		"version leaves":   {func(a *model.Artifact) { a.Manifest.Version = ".." }, `version ".."`},
		"version with /":   {func(a *model.Artifact) { a.Manifest.Version = "a/b" }, `version "a/b"`},
		"version with NUL": {func(a *model.Artifact) { a.Manifest.Version = "a\x00" }, `version "a\x00"`},
		"version with LF":  {func(a *model.Artifact) { a.Manifest.Version = "a\n" }, `version "a\n"`},
		"long version":     {func(a *model.Artifact) { a.Manifest.Version = strings.Repeat("v", 65) }, "want 1 to 64"},
		"unknown schema":   {func(a *model.Artifact) { a.Spec.Schema = "v9" }, `unknown feature schema "v9"`},
		"NaN":              {func(a *model.Artifact) { a.Spec.Logistic.Weight[1] = math.NaN() }, "not finite"},
		"no baseline":      {func(a *model.Artifact) { a.Baseline = nil }, "no baseline"},
		"no golden":        {func(a *model.Artifact) { a.Golden.Vectors = nil }, "no vectors"},
		"no formula":       {func(a *model.Artifact) { a.Spec.Logistic = nil }, "family"},
	} {
		root := t.TempDir()
		a := copyOf(t, version)
		tt.change(a)
		if err := model.OpenRegistry(root).Add(a); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
		if left, _ := os.ReadDir(root); len(left) != 0 {
			t.Errorf("%s: left %v behind", name, left)
		}
	}
}

func TestList(t *testing.T) {
	root := t.TempDir()
	r := model.OpenRegistry(filepath.Join(root, "not", "there", "yet"))
	if got, err := r.List(); err != nil || len(got) != 0 {
		t.Errorf("no folder: got %v, %v; want none", got, err)
	}
	root = enginetest.Registry(t, "v1.8.1", "v2", "v10", "v1")
	for _, junk := range []string{"README", "test/notes/x", "test/.new-123/manifest.json", ".git/x/manifest.json", "test/empty/model.json"} {
		path := filepath.Join(root, junk)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("{}"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := model.OpenRegistry(root).List()
	want := []model.Entry{{Name: "test", Version: "v1"}, {Name: "test", Version: "v10"}, {Name: "test", Version: "v2"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	r := model.OpenRegistry(root)
	for _, name := range []string{"btc", "eur"} {
		for _, v := range []string{"v1", "v2-" + name} {
			a := copyOf(t, v)
			a.Manifest.Name = name
			if err := r.Add(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	for ref, want := range map[string]string{
		"btc/v1": "btc/v1", "eur/v1": "eur/v1", "v2-btc": "btc/v2-btc", "eur/v2-eur": "eur/v2-eur",
	} {
		if got, err := r.Find(ref); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v; want %s", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"v1":            "several models \"v1\": name one of btc/v1, eur/v1",
		"v3":            "no model \"v3\"; it has btc/v1, btc/v2-btc, eur/v1, eur/v2-eur",
		"btc":           "no model \"btc\"",
		"":              "no model \"\"",
		"../btc/v1":     "no model \"../btc/v1\"",
		"btc/../eur/v1": "no model",
	} {
		if got, err := r.Find(ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want %q", ref, got, err, want)
		}
	}
	if _, err := model.OpenRegistry(t.TempDir()).Find("v1"); err == nil || !strings.Contains(err.Error(), "it has none") {
		t.Errorf("empty registry: got %v", err)
	}
}

// A folder that was renamed or copied by hand does not match its manifest.
func TestLoadComparesTheManifestWithItsPlace(t *testing.T) {
	root := enginetest.Registry(t, "v1.8.1", "v1")
	if err := os.Rename(filepath.Join(root, "test", "v1"), filepath.Join(root, "test", "v2")); err != nil {
		t.Fatal(err)
	}
	if _, err := model.OpenRegistry(root).Load("v2"); err == nil || !strings.Contains(err.Error(), "its manifest says test/v1") {
		t.Errorf("got %v", err)
	}
}

func TestEntry(t *testing.T) {
	if got := fmt.Sprint(model.Entry{Name: "btc", Version: "v1"}); got != "btc/v1" {
		t.Errorf("got %q, want btc/v1", got)
	}
}

// If the model's folder was not synced, the model is in the registry and the error says so. If its files were not
// synced, it is not there.
func TestAddThatFailsSaysWhetherTheModelIsThere(t *testing.T) {
	root := t.TempDir()
	r := model.OpenRegistry(root)
	repair := durabletest.FailFiles(t, root)
	err := r.Add(copyOf(t, "v1"))
	if entries, listErr := r.List(); err == nil || durable.Unsure(err) || listErr != nil || len(entries) != 0 {
		t.Errorf("the files cannot be synced: got %v, and the registry has %v, %v", err, entries, listErr)
	}
	repair()
	if err := r.Add(copyOf(t, "v1")); err != nil {
		t.Fatal(err)
	}
	repair = durabletest.FailFolders(t, root+"/"+copyOf(t, "v1").Manifest.Name)
	err = r.Add(copyOf(t, "v2"))
	entries, listErr := r.List()
	if there := len(entries) == 2; err == nil || durable.Unsure(err) != there || listErr != nil {
		t.Errorf("the folder cannot be synced: got %v, and the registry has %v, %v", err, entries, listErr)
	}
	repair()
	if err := r.Add(copyOf(t, "v2")); err != nil {
		t.Errorf("again: %v", err)
	}
}
