package promote

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
)

// A promotion grants its model, and no other; whatever is changed in its files takes that away.
func TestGranted(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	names := s.write()
	digest := s.made.Model.Digest()
	if _, err := Granted(s.q.Evidence, digest); !errors.Is(err, ErrNotPromoted) || !strings.Contains(err.Error(), "promotion.json is not there") {
		t.Errorf("before the promotion: %v", err)
	}
	if _, err := s.confirm(s.ask().Phrase, Releaser{Git: "test"}); err != nil {
		t.Fatal(err)
	}
	g, err := Granted(s.q.Evidence, digest)
	if err != nil {
		t.Fatal(err)
	}
	if g.Model.Digest != digest || g.Model.Version != release || g.Plan != outcometest.Plan() || len(g.Inputs) != 2 || g.Inputs[1].Path != names["quality"] {
		t.Errorf("granted %+v", g)
	}
	if _, err := Granted(s.q.Evidence, strings.Repeat("f", 64)); !errors.Is(err, ErrNotPromoted) {
		t.Errorf("another model: %v", err)
	}
	for name, change := range map[string]struct{ file, from, to string }{
		"an open blocker":      {PromotionName, `"verdict": "PASS"`, `"verdict": "INCONCLUSIVE"`},
		"not live":             {PromotionName, `"source": "live"`, `"source": "replay"`},
		"another header":       {PromotionName, `"digest": "` + digest, `"digest": "` + strings.Repeat("e", 64)},
		"no live quality":      {PromotionName, `"live quality"`, `"dead quality"`},
		"another live quality": {names["quality"], "\n", " \n"},
		"another schema":       {PromotionName, PromotionSchema, "greenlight/promotion/v0"},
	} {
		path := s.made.Path(change.file)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		edited := strings.Replace(string(raw), change.from, change.to, 1)
		if edited == string(raw) {
			t.Fatalf("%s: nothing to change", name)
		}
		if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := Granted(s.q.Evidence, digest); err == nil {
			t.Errorf("%s: granted %+v", name, g)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
