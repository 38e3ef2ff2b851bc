package decision_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/model"
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
		"":                               "want heuristic=<file> or model=<registry entry>",
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
