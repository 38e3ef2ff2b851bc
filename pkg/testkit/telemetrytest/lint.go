package telemetrytest

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// Lint checks the families with the prefixes on a metrics page with Prometheus' linter. by lists accepted problems: the
// linter's text and the affected names (or their ends, as in "*_ms"). An accepted problem that does not occur fails too, so that
// the list stays correct.
func Lint(t testing.TB, page io.Reader, prefixes []string, by map[string][]string) {
	t.Helper()
	problems, err := promlint.New(page).Lint()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range problems {
		if !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(p.Metric, prefix) }) {
			continue
		}
		i := slices.IndexFunc(by[p.Text], func(name string) bool {
			end, isEnd := strings.CutPrefix(name, "*")
			return p.Metric == name || isEnd && strings.HasSuffix(p.Metric, end)
		})
		if i < 0 {
			t.Errorf("%s: %s", p.Metric, p.Text)
			continue
		}
		seen[p.Text+by[p.Text][i]] = true
	}
	for text, names := range by {
		for _, name := range names {
			if !seen[text+name] {
				t.Errorf("the linter no longer reports %q for %s: remove it from the list", text, name)
			}
		}
	}
}
