package decision_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

func TestLoadBaseline(t *testing.T) {
	registry := enginetest.Registry(t, "v1.8.1", "v1")
	a, err := model.OpenRegistry(registry).Load("v1")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(registry, "test", "v1", model.BaselineFile)
	for spec, want := range map[string]struct{ version, digest string }{
		"heuristic=" + file: {"heuristic-test", a.Baseline.Digest()},
		"model=v1":          {"v1", a.Digest()},
		"model=test/v1":     {"v1", a.Digest()},
	} {
		if b, err := decision.LoadBaseline(spec, registry, nil); err != nil || b.Version != want.version || b.Digest != want.digest {
			t.Errorf("%s: got %+v, %v; want %v", spec, b, err, want)
		}
	}
	for spec, want := range map[string]string{
		"":                               "want heuristic=<file>, model=<registry entry> or caller=<name>@<version>",
		"v1":                             "want heuristic=<file>",
		"Heuristic=" + file:              "want heuristic=<file>",
		"heuristic=no/such.json":         "baseline",
		"heuristic=" + writeFile(t, "x"): "invalid character",
		"model=v2":                       `no model "v2"; it has test/v1`,
	} {
		if _, err := decision.LoadBaseline(spec, registry, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", spec, err, want)
		}
	}
}

// With keys, both forms refuse a baseline of a model that is not signed with one of them.
func TestLoadSignedBaseline(t *testing.T) {
	registry := enginetest.Registry(t, "v1.8.1", "v1")
	_, private := keytest.New(t)
	keys, err := dsse.ReadKeys(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	specs := []string{"heuristic=" + filepath.Join(registry, "test", "v1", model.BaselineFile), "model=v1"}
	for _, spec := range specs {
		if _, err := decision.LoadBaseline(spec, registry, keys); !errors.Is(err, model.ErrUnsigned) {
			t.Errorf("%s, unsigned: got %v", spec, err)
		}
	}
	key, err := dsse.ReadSigner(private)
	if err == nil {
		err = model.OpenRegistry(registry).Sign(model.Entry{Name: "test", Version: "v1"}, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		want, err := decision.LoadBaseline(spec, registry, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decision.LoadBaseline(spec, registry, keys); err != nil || got.Digest != want.Digest || got.Version != want.Version {
			t.Errorf("%s, signed: got %+v, %v", spec, got, err)
		}
	}
}
