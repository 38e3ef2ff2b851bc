package telemetrytest

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// Lint checks a page of metrics with Prometheus' own linter, but for families of other prefixes. by holds what is as it
// is by design: what the linter says, and for which names (or their ends, as in "*_ms"). What is in there and does not
// come about fails too, so that the list stays true.
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
				t.Errorf("nothing says %q of %s any more: take it off the list", text, name)
			}
		}
	}
}
