// Package telemetrytest compares the metrics of a service with its contract: a golden file of every name and label.
package telemetrytest

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Parse reads a page of metrics in the text format.
func Parse(t testing.TB, page io.Reader) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	return families
}

// Inventory lists the families whose names begin with one of the prefixes: type, bucket edges, every label with its values,
// and the number of series. The values of labels in hide are omitted.
func Inventory(families map[string]*dto.MetricFamily, prefixes, hide []string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		f := families[name]
		fmt.Fprintf(&b, "%s %s: %d series\n", strings.ToLower(f.GetType().String()), name, len(f.GetMetric()))
		labels := map[string]map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] == nil {
					labels[l.GetName()] = map[string]bool{}
				}
				labels[l.GetName()][l.GetValue()] = true
			}
		}
		for _, l := range slices.Sorted(maps.Keys(labels)) {
			values := strings.Join(slices.Sorted(maps.Keys(labels[l])), " ")
			if slices.Contains(hide, l) {
				values = "..."
			}
			fmt.Fprintf(&b, "  %s: %s\n", l, values)
		}
		if h := f.GetMetric()[0].GetHistogram(); h != nil {
			b.WriteString("  buckets:")
			for _, bucket := range h.GetBucket() {
				fmt.Fprintf(&b, " %v", bucket.GetUpperBound())
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Golden compares got with the file; go test -update writes it.
func Golden(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; these names are API: if the change is intended, run go test -update and add it to CHANGELOG.md.\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// Values returns the counters and gauges whose names begin with prefix, by name and label values, sorted by label name. For a
// histogram it returns the count.
func Values(families map[string]*dto.MetricFamily, prefix string) map[string]float64 {
	values := map[string]float64{}
	for name, f := range families {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := m.GetLabel()
			slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
			key := name
			for _, l := range labels {
				key += " " + l.GetValue()
			}
			switch {
			case m.GetCounter() != nil:
				values[key] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				values[key] = m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				values[key] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return values
}
