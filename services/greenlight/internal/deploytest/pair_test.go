package deploytest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/testkit/promtest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// pair is ml-engine, executor and the agent, as processes.
type pair struct {
	engine, executor, agent *process.Process
	model                   *model.Artifact
	replayed                chan error
}

// A real Prometheus with the shipped configuration and rules scrapes the real programs during a replay. It finds data for
// every query of every rule and panel, misses no series, and fires an alert when ml-engine is stopped.
func TestPrometheusSeesThePair(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	t.Parallel()
	promtest.Program(t, "prometheus")
	p := startPair(t)
	defer p.replay(t, 200)()
	server := promtest.Start(t, promtest.Options{Config: config(t, map[string]string{
		"executor": p.executor.Addr("http"), "ml-engine": p.engine.Addr("http"), "agent": p.agent.Addr("metrics"),
	})})

	queries := everyQuery(t)
	if len(queries) < 100 {
		t.Fatalf("%d queries, want at least 100", len(queries))
	}
	missing := queries
	began := time.Now()
	server.Await("have data for every query", func() bool {
		var last error
		missing = slices.DeleteFunc(slices.Clone(missing), func(q string) bool {
			found, err := server.Query(q)
			if err != nil {
				last = err
			}
			return len(found) > 0
		})
		if last != nil {
			t.Fatal(last)
		}
		select {
		case err := <-p.replayed:
			t.Fatalf("the replay ended: %v", err)
		default:
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("no data after %v: %s", time.Since(began), strings.Join(missing, "\n"))
		}
		return len(missing) == 0
	})
	t.Logf("%d queries have data %v after Prometheus answers", len(queries), time.Since(began).Round(time.Second))

	_, alerts := shipped(t)
	for _, name := range []string{"MLSeriesMissing", "MLEngineDown", "MLExecutorDown", "MLAgentSilent", "MLBaselineErrors"} {
		if found, err := server.Query(alerts[name].Expr); err != nil || len(found) > 0 {
			t.Errorf("%s on a healthy pair: %v, %v", name, found, err)
		}
	}

	p.checkSeries(t, server)
	if err := p.engine.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	const firing = `ALERTS{alertname="MLEngineDown", alertstate="firing", severity="critical", job="ml-engine"}`
	server.Await("fire MLEngineDown", func() bool {
		found, err := server.Query(firing)
		return err == nil && len(found) == 1
	})
	select {
	case err := <-p.replayed:
		t.Errorf("the baseline failed when the engine stopped: %v", err)
	default:
	}
}

// checkSeries checks the number of series of each program. All labels are bounded, so traffic does not change it.
func (p *pair) checkSeries(t *testing.T, server *promtest.Server) {
	t.Helper()
	for _, job := range []string{"executor", "ml-engine", "agent"} {
		of := func(metric string) (v float64) {
			found, err := server.Query(fmt.Sprintf("max(%s{job=%q})", metric, job))
			if err != nil || len(found) != 1 {
				t.Errorf("%s of %s: %v, %v", metric, job, found, err)
			}
			return found["{}"]
		}
		series := of("scrape_samples_scraped")
		if series < 20 || series >= 2000 {
			t.Errorf("a scrape of %s has %v series, want at least 20 and fewer than 2,000", job, series)
		}
		t.Logf("%s: %v series, the last scrape took %.1f ms", job, series, 1000*of("scrape_duration_seconds"))
	}
}

// startPair starts the programs.
func startPair(t testing.TB) *pair {
	t.Helper()
	dir := need.Programs(t, filepath.Join(deploy, ".."), "ml-engine", "executor", "greenlight")
	models := enginetest.Registry(t, "v1.8.1", "v1")
	a, err := model.OpenRegistry(models).Load("test/v1")
	if err != nil {
		t.Fatal(err)
	}
	start := func(name string, args ...string) *process.Process {
		p, err := process.Start(t.Context(), filepath.Join(dir, name), dir, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Stop(10 * time.Second) })
		return p
	}
	p := &pair{model: a, replayed: make(chan error, 1)}
	p.engine = start("ml-engine", "--models", models, "--model", "test/v1", "--drift-clock", "event", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")
	p.executor = start("executor", "--baseline", "heuristic="+filepath.Join(models, "test", "v1", model.BaselineFile),
		"--engine-addr", p.engine.Addr("grpc"), "--challenger", "copy="+p.engine.Addr("grpc"), "--insecure-control",
		"--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")
	p.plan(t)
	work := t.TempDir()
	p.agent = start("greenlight", "agent", "--source", "simulated", "--metrics-listen", "127.0.0.1:0", "--state", filepath.Join(work, "state"),
		"--evidence", filepath.Join(work, "evidence"), "--engine", p.engine.Addr("grpc"), "--executor", p.executor.Addr("grpc"))
	return p
}

// plan sets a plan, without which executor has no verdict on quality.
func (p *pair) plan(t testing.TB) {
	t.Helper()
	conn, err := rpc.Dial(p.executor.Addr("grpc"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	plan := outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: outcome.DefaultAlpha, LabelSource: outcome.Quotes, HorizonMS: (15 * time.Minute).Milliseconds()}
	if _, err := fleet.NewExecutor(p.executor.Addr("grpc"), conn).SetRollout(t.Context(), &executorv1.SetRolloutRequest{
		Percent: 100, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Reason: "test", Plan: wire.Plan(plan),
	}); err != nil {
		t.Fatal(err)
	}
}

// replay sends market states at the given rate per second, or as fast as possible if it is 0, until stop is called. It
// ends early if an answer of the baseline fails or differs.
func (p *pair) replay(t testing.TB, rate float64) (stop func()) {
	t.Helper()
	a := p.model
	conn, err := rpc.Dial(p.executor.Addr("grpc"), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := fleet.NewExecutor(p.executor.Addr("grpc"), conn)
	// 20 minutes apart, so that they span 7 days: drift needs at least 5 days.
	const apart = 20 * time.Minute
	rng, states := rand.New(rand.NewPCG(1, 2)), make([]traffic.State, 500)
	for i := range states {
		x, named, inputs := enginetest.Vector(rng, a.Schema), map[string]float64{}, []float64(nil)
		for j, f := range a.Schema.Features {
			named[f.Name] = x[j]
		}
		for _, name := range a.Baseline.Inputs() {
			inputs = append(inputs, named[name])
		}
		states[i] = traffic.State{
			ID: fmt.Sprint("state-", i), Symbol: "SIM-PERP", Time: timestamppb.New(time.Now().Add(apart * time.Duration(i-len(states)))), Vector: x, Named: named,
			Score: a.Scorer.Score(x), Baseline: a.Baseline.Score(inputs), Decides: traffic.Heuristic(a).Model,
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			r, err := traffic.Shadow(ctx, client, a, states, traffic.Pace{Rate: rate, Timeout: 20 * time.Second})
			if err == nil && r.Succeeded < r.Total {
				err = fmt.Errorf("%d of %d decisions are right: %v", r.Succeeded, r.Total, r.Errors)
			}
			if err != nil && ctx.Err() == nil {
				p.replayed <- err
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		_ = conn.Close()
	}
}

// config returns the shipped configuration with the given targets, sped up for a test: scrapes and rules run every second,
// and MLEngineDown waits 2 s instead of 2 min.
func config(t *testing.T, targets map[string]string) string {
	t.Helper()
	var c struct {
		Global        map[string]any
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			StaticConfigs []struct {
				Targets []string
			} `yaml:"static_configs"`
			Names []any `yaml:"dns_sd_configs,omitempty"`
		} `yaml:"scrape_configs"`
	}
	decode(t, filepath.Join(deploy, "prometheus", "prometheus.yml"), &c)
	c.Global = map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"}
	for i, s := range c.ScrapeConfigs {
		if targets[s.JobName] == "" || len(s.StaticConfigs) != 1 {
			t.Fatalf("job %q is not one of %v", s.JobName, targets)
		}
		c.ScrapeConfigs[i].StaticConfigs[0].Targets = []string{targets[s.JobName]}
		c.ScrapeConfigs[i].Names = nil // no DNS in a test
		delete(targets, s.JobName)
	}
	if len(targets) > 0 {
		t.Fatalf("the configuration does not scrape %v", targets)
	}
	if !slices.Equal(c.RuleFiles, []string{"rules/*.yml"}) {
		t.Fatalf("the configuration loads %v", c.RuleFiles)
	}
	dir := t.TempDir()
	for _, path := range rulePaths(t) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "interval: 1m", "interval: 1s")
		const slow, fast = "expr: up{job=\"ml-engine\"} == 0\n        for: 2m", "expr: up{job=\"ml-engine\"} == 0\n        for: 2s"
		if filepath.Base(path) == "ml.yml" {
			if strings.Count(text, slow) != 1 {
				t.Fatalf("%s: MLEngineDown has changed, adapt this test", path)
			}
			text = strings.Replace(text, slow, fast, 1)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.RuleFiles = []string{filepath.Join(dir, "*.yml")}
	raw, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// selector matches a series with its label matchers in an expression.
var selector = regexp.MustCompile(name.String() + `(?:\s*\{[^}]*\})?`)

// ungrouped makes rules about groups read the series of an executor that is in none.
var ungrouped = strings.NewReplacer(`{group!=""}`, "", "ml:fleet_present:count", "ml_fleet_connected")

// everyQuery returns all expressions that must find data: the recording rules, every series that a rule reads, and every
// query of the dashboard. Alerts themselves find nothing on a healthy pair.
func everyQuery(t *testing.T) (queries []string) {
	t.Helper()
	recorded, alerts := shipped(t)
	reads := func(expr string) {
		var names []string // quoted texts, which are not series
		for _, q := range quoted.FindAllString(expr, -1) {
			names = append(names, strings.Trim(q, `"`))
		}
		for _, s := range selector.FindAllString(expr, -1) {
			if !slices.Contains(names, s) && !strings.HasPrefix(s, "ml_tls_") { // this pair has no TLS
				queries = append(queries, s)
			}
		}
	}
	for name, r := range recorded {
		// These exist only while a canary runs, and only in a group.
		if name != "ml:canary:running" && name != "ml:fleet_present:count" {
			queries = append(queries, name, r.Expr)
		}
		reads(ungrouped.Replace(r.Expr))
	}
	for _, a := range alerts {
		reads(ungrouped.Replace(strings.ReplaceAll(a.Expr, "ml:canary:running", "ml_rollout_lease_seconds")))
	}
	d := board(t)
	chosen := strings.NewReplacer("$instance", ".*", "$model_version", ".*")
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			queries = append(queries, chosen.Replace(q.Expr))
		}
	}
	for _, a := range d.Annotations.List {
		reads(a.Expr)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			series, label, found := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.query(), "label_values("), ")"), ", ")
			if !found {
				t.Fatalf("variable %s has the query %q", v.Name, v.query())
			}
			queries = append(queries, fmt.Sprintf("group by (%s) (%s)", label, series))
		}
	}
	slices.Sort(queries)
	return slices.Compact(queries)
}
