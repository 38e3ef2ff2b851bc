package monitor_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/promtest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// rules are the recording rules that operators load.
const rules = "../../../../deploy/prometheus/rules/ml-psi.yml"

// A real Prometheus with the shipped rules computes the same fleet PSI as GetDrift on the merged counts. The counters come from
// two replicas with different traffic over six and a half days, one of which was restarted.
func TestFleetPSI(t *testing.T) {
	promtool := promtest.Program(t, "promtool")
	promtest.Program(t, "prometheus")
	a := enginetest.Artifact(t, "v1.8.1", "v1")
	var samples []sample
	var want map[string]float64
	synctest.Test(t, func(t *testing.T) { samples, want = fleet(t, a) })
	var text strings.Builder
	now := time.Now() // the last samples are of now: rules ignore samples older than five minutes
	for _, s := range samples {
		fmt.Fprintf(&text, "%s %.3f\n", s.line, float64(now.Add(-s.age).UnixMilli())/1000)
	}
	text.WriteString("# EOF\n")

	dir := t.TempDir()
	exposition, data := filepath.Join(dir, "metrics.txt"), filepath.Join(dir, "data")
	if err := os.WriteFile(exposition, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", exposition, data).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	often := filepath.Join(dir, "rules.yml")
	if err := os.WriteFile(often, []byte(strings.Replace(string(raw), "interval: 1m", "interval: 1s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	server := promtest.Start(t, promtest.Options{Data: data, Config: "rule_files: [" + often + "]\n"})
	var overall map[string]float64
	server.Await("evaluate the rules", func() bool {
		overall, err = server.Query("ml:psi_overall:7d")
		return err == nil && len(overall) > 0
	})
	each, err := server.Query("ml:psi:7d")
	if err != nil {
		t.Fatal(err)
	}
	reference := a.Manifest.Files[model.ReferenceFile][:8]
	got := map[string]float64{"overall": overall[fmt.Sprintf(`{job="ml-engine", reference=%q}`, reference)]}
	for _, f := range a.Reference.Features {
		got[f.Name] = each[fmt.Sprintf(`{feature=%q, job="ml-engine", reference=%q}`, f.Name, reference)]
	}
	if len(each) != len(want)-1 {
		t.Errorf("got %d features, want %d: %v", len(each), len(want)-1, each)
	}
	for name, w := range want {
		if d := math.Abs(got[name] - w); !(d <= 1e-6) || w == 0 {
			t.Errorf("%s: Prometheus has %v, GetDrift %v: apart by %g", name, got[name], w, d)
		}
	}
	t.Logf("overall: Prometheus %.12f, GetDrift on merged counts %.12f", got["overall"], want["overall"])
}

// sample returns a line of an exposition, with a time before the end.
type sample struct {
	age  time.Duration
	line string
}

// fleet makes two replicas score in fake time. It returns their scraped metrics and the indices of their merged counts.
func fleet(t *testing.T, a *model.Artifact) (samples []sample, want map[string]float64) {
	t.Helper()
	const interval = 2 * time.Hour
	const scrapes = 6*12 + 6 // six and a half days
	end := time.Now().Add(scrapes * interval)
	type replica struct {
		*trial
		dir string
		reg *prometheus.Registry
	}
	begin := func(dir string) replica {
		r := replica{open(t, a, dir, false), dir, prometheus.NewRegistry()}
		r.RegisterMetrics(r.reg)
		return r
	}
	replicas := []replica{begin(""), begin(t.TempDir())}
	scrape := func() {
		for i, r := range replicas {
			families, err := r.reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					labels := fmt.Sprintf(`job="ml-engine",instance="%d"`, i)
					for _, l := range m.GetLabel() {
						labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
					}
					samples = append(samples, sample{time.Until(end), fmt.Sprintf("%s{%s} %v", f.GetName(), labels, m.GetGauge().GetValue()+m.GetCounter().GetValue())})
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(5, 0))
	for i := range scrapes {
		scrape()
		if i == 25 { // one restarts: its counters reset and its counts continue
			replicas[1].stop()
			replicas[1] = begin(replicas[1].dir)
		}
		time.Sleep(interval)
		replicas[0].observe(rng, 12+i%5, i%2 == 0, time.Time{})
		if i%3 > 0 {
			replicas[1].shifted(rng, 20)
		}
	}
	scrape()

	merged := drift.NewCounts(a.Reference)
	for _, r := range replicas {
		if err := merged.Merge(countsOf(t, a.Reference, r.drift(&mlenginev1.GetDriftRequest{Bins: true}))); err != nil {
			t.Fatal(err)
		}
		r.stop()
	}
	overall, each := a.Reference.PSI(merged)
	want = map[string]float64{"overall": overall}
	for i, f := range a.Reference.Features {
		want[f.Name] = each[i]
	}
	return samples, want
}
