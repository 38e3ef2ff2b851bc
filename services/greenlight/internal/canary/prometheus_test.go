package canary

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry/promtest"
)

// exposed is the series of one executor.
type exposed struct {
	mu       sync.Mutex
	percent  float64
	process  float64
	outcomes map[shadow.Outcome]float64
	// buckets count the latencies up to each edge.
	edges   []string
	buckets []float64
	// age is how old the samples are.
	age time.Duration
	// gone are series that there are not.
	gone []string
}

func newExposed() *exposed {
	x := &exposed{percent: 5, process: 1000, outcomes: map[shadow.Outcome]float64{}, edges: []string{"1", "60", "80", "+Inf"}, buckets: []float64{90, 99, 100, 100}}
	for i, o := range shadow.Outcomes() {
		x.outcomes[o] = float64(10 * i)
	}
	return x
}

func (x *exposed) change(fn func(*exposed)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fn(x)
}

// each calls add for every series.
func (x *exposed) each(add func(name, label, value string, v float64)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	keep := func(name, label, value string, v float64) {
		if !slices.Contains(x.gone, name) && !slices.Contains(x.gone, name+value) {
			add(name, label, value, v)
		}
	}
	keep(percentSeries, "", "", x.percent)
	keep(processSeries, "", "", x.process)
	for _, o := range shadow.Outcomes() {
		keep(outcomesSeries, "outcome", o.String(), x.outcomes[o])
	}
	for i, edge := range x.edges {
		keep(latencySeries, "le", edge, x.buckets[i])
	}
}

// ServeHTTP is the executor's /metrics.
func (x *exposed) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	x.each(func(name, label, value string, v float64) {
		if label != "" {
			name += fmt.Sprintf("{%s=%q}", label, value)
		}
		_, _ = fmt.Fprintf(w, "%s %v\n", name, v)
	})
}

// fakeAPI is the HTTP API of a Prometheus that has scraped the executors.
type fakeAPI struct {
	all     map[string]*exposed
	warning string
	scalar  bool
}

// ServeHTTP answers the two queries of a look.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ages := strings.HasPrefix(r.FormValue("query"), "time() - timestamp(")
	type sample struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	result := []sample{}
	for instance, x := range f.all {
		x.each(func(name, label, value string, v float64) {
			s := sample{Metric: map[string]string{"instance": instance, "job": "executor"}, Value: [2]any{0, fmt.Sprint(v)}}
			switch {
			case ages && name == percentSeries:
				s.Value[1] = fmt.Sprint(x.age.Seconds())
			case ages:
				return
			default:
				s.Metric["__name__"] = name
			}
			if label != "" {
				s.Metric[label] = value
			}
			result = append(result, s)
		})
	}
	data := map[string]any{"resultType": "vector", "result": result}
	if f.scalar {
		data = map[string]any{"resultType": "scalar", "result": [2]any{0, "1"}}
	}
	answer := map[string]any{"status": "success", "data": data}
	if f.warning != "" {
		answer["warnings"] = []string{f.warning}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func sourceOf(t *testing.T, h http.Handler, replicas int) *Prometheus {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	source, err := NewPrometheus(server.URL, DefaultMatch, replicas)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestPrometheusCounters(t *testing.T) {
	t.Parallel()
	x := newExposed()
	x.age = 7 * time.Second
	asked := time.Now()
	all, err := sourceOf(t, &fakeAPI{all: map[string]*exposed{"a:1": x}}, 1).Read(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	c := all[0]
	var requests uint64
	for _, o := range shadow.Outcomes() {
		if n := c.Outcomes[o.String()]; float64(n) != x.outcomes[o] {
			t.Errorf("%s: %d, want %v", o, n, x.outcomes[o])
		}
		requests += c.Outcomes[o.String()]
	}
	if c.Requests != requests || c.Percent != 5 || c.Process != "1000" || !strings.Contains(c.Executor, "a:1") {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(c.Edges, []float64{1, 60, 80}) || !slices.Equal(c.Latency, []uint64{90, 9, 1, 0}) {
		t.Errorf("edges %v, latencies %v", c.Edges, c.Latency)
	}
	if age := asked.Sub(c.Time); age > 7*time.Second || age < 6*time.Second {
		t.Errorf("its figures are %v old, want 7 s", age)
	}
}

// What Prometheus does not know is never taken for a figure; what it knows of others still is.
func TestPrometheusFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*fakeAPI, *exposed)
		want  string
		// read is how many of the two executors can be read.
		read int
	}{
		"healthy":            {func(*fakeAPI, *exposed) {}, "", 2},
		"fewer replicas":     {func(f *fakeAPI, _ *exposed) { delete(f.all, "b:1") }, "selects the series of 1 executors, and 2 are under control", 1},
		"nobody":             {func(f *fakeAPI, _ *exposed) { clear(f.all) }, "selects the series of 0 executors", 0},
		"no percent":         {func(_ *fakeAPI, x *exposed) { x.gone = []string{percentSeries} }, "no series ml_rollout_percent", 1},
		"percent NaN":        {func(_ *fakeAPI, x *exposed) { x.percent = math.NaN() }, "no series ml_rollout_percent", 1},
		"no process":         {func(_ *fakeAPI, x *exposed) { x.gone = []string{processSeries} }, "no series process_start_time_seconds", 1},
		"outcome missing":    {func(_ *fakeAPI, x *exposed) { x.gone = []string{outcomesSeries + "deadline"} }, `no series ml_shadow_outcomes_total{outcome="deadline"}`, 1},
		"count NaN":          {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = math.NaN() }, "a count of NaN", 1},
		"count negative":     {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = -1 }, "a count of -1", 1},
		"count infinite":     {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = math.Inf(1) }, "a count of +Inf", 1},
		"no histogram":       {func(_ *fakeAPI, x *exposed) { x.gone = []string{latencySeries} }, `no bucket le="+Inf"`, 1},
		"no last bucket":     {func(_ *fakeAPI, x *exposed) { x.gone = []string{latencySeries + "+Inf"} }, `no bucket le="+Inf"`, 1},
		"buckets fall":       {func(_ *fakeAPI, x *exposed) { x.buckets = []float64{90, 99, 98, 100} }, "ml_shadow_latency_ms_bucket falls at 80 ms", 1},
		"bucket of no edge":  {func(_ *fakeAPI, x *exposed) { x.edges[0] = "one" }, `bucket "one"`, 1},
		"not scraped":        {func(_ *fakeAPI, x *exposed) { x.age = 61 * time.Second }, "its figures are 1m1s old", 1},
		"part of an answer":  {func(f *fakeAPI, _ *exposed) { f.warning = "a store is away" }, "a store is away", 0},
		"something else":     {func(f *fakeAPI, _ *exposed) { f.scalar = true }, "scalar instead of a vector", 0},
		"a minute is enough": {func(_ *fakeAPI, x *exposed) { x.age = 59 * time.Second }, "", 2},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			b := newExposed()
			f := &fakeAPI{all: map[string]*exposed{"a:1": newExposed(), "b:1": b}}
			test.spoil(f, b)
			all, err := sourceOf(t, f, 2).Read(t.Context())
			if len(all) != test.read {
				t.Errorf("%d executors were read, want %d", len(all), test.read)
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestPrometheusDown(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"failing":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"not one":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"a bad gate": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		if all, err := sourceOf(t, handler, 1).Read(t.Context()); err == nil || len(all) > 0 || !strings.HasPrefix(err.Error(), "prometheus http://") {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	plan := &Plan{Target: Target{Executors: []string{"a"}, Prometheus: server.URL, Match: DefaultMatch}}
	server.Close()
	err := Readable(t.Context(), plan)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || Hint(err) == "" || strings.Count(err.Error(), server.URL) != 1 {
		t.Errorf("%v (hint %q)", err, Hint(err))
	}
	for _, address := range []string{"", "127.0.0.1:9090", "ftp://127.0.0.1", "http://", "%"} {
		if _, err := NewPrometheus(address, DefaultMatch, 1); err == nil {
			t.Errorf("%q is taken for a URL", address)
		}
	}
	if err := Readable(t.Context(), &Plan{}); err != nil {
		t.Errorf("executors need no Prometheus: %v", err)
	}
}

// The real Prometheus scrapes two executors, one of which restarts and then goes away.
func TestRealPrometheus(t *testing.T) {
	t.Parallel()
	a, b := newExposed(), newExposed()
	serverA, serverB := httptest.NewServer(a), httptest.NewServer(b)
	t.Cleanup(serverA.Close)
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	p := promtest.Start(t, promtest.Options{Config: fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: executor
    static_configs: [{targets: ['%s', '%s']}]
`, host(serverA), host(serverB))})
	source, err := NewPrometheus(p.URL, DefaultMatch, 2)
	if err != nil {
		t.Fatal(err)
	}
	var all []Counters
	p.Await("have scraped both", func() bool {
		all, err = source.Read(t.Context())
		return err == nil
	})
	if len(all) != 2 || !slices.Equal(all[0].Latency, []uint64{90, 9, 1, 0}) || all[0].Percent != 5 || time.Since(all[0].Time) > maxSampleAge {
		t.Fatalf("%+v", all)
	}
	var counted tally
	counted.begin(all)
	b.change(func(x *exposed) { x.process, x.outcomes[shadow.Match] = 2000, 1 })
	p.Await("have seen the restart", func() bool {
		all, err = source.Read(t.Context())
		return err == nil && counted.add(all) != nil
	})
	if err := counted.add(all); !strings.Contains(err.Error(), restarted) || !strings.Contains(err.Error(), host(serverB)) {
		t.Errorf("got %v", err)
	}
	serverB.Close()
	p.Await("miss the one that went away", func() bool {
		all, err = source.Read(t.Context())
		// Its series may end between the two questions of a look: then one of them is missed, which is an error as well.
		return err != nil && strings.Contains(err.Error(), "selects the series of 1 executors, and 2 are under control")
	})
	if len(all) != 1 {
		t.Errorf("%d read, %v", len(all), err)
	}
}
