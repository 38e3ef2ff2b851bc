package fleet

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/promtest"
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
	// instance is the executor's id, requests the number of accepted requests. Empty and 0 are not exported.
	instance string
	requests float64
	// gone are the series that are missing.
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
	if x.instance != "" {
		keep(infoSeries, instanceLabel, x.instance, 1)
	}
	if x.requests > 0 {
		keep(requestsSeries, "", "", x.requests)
	}
	for _, o := range shadow.Outcomes() {
		keep(outcomesSeries, "outcome", o.String(), x.outcomes[o])
	}
	for i, edge := range x.edges {
		keep(latencySeries, "le", edge, x.buckets[i])
	}
}

// ServeHTTP serves the executor's /metrics.
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
	// edit, which may be nil, changes a sample or drops it by returning nil.
	edit func(s *fakeSample, ages bool) []*fakeSample
}

type fakeSample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// ServeHTTP answers the two queries of a read.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ages := strings.HasPrefix(r.FormValue("query"), "time() - timestamp(")
	result := []*fakeSample{}
	for instance, x := range f.all {
		x.each(func(name, label, value string, v float64) {
			s := &fakeSample{Metric: map[string]string{"instance": instance, "job": "executor"}, Value: [2]any{time.Now().Unix(), fmt.Sprint(v)}}
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
			if f.edit != nil {
				result = append(result, f.edit(s, ages)...)
				return
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
	source, err := NewPrometheus(PrometheusOptions{URL: server.URL, Match: DefaultMatch}, replicas)
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
	if !slices.Equal(c.Latency.Edges, []float64{1, 60, 80}) || !slices.Equal(c.Latency.Counts, []uint64{90, 9, 1, 0}) {
		t.Errorf("edges %v, latencies %v", c.Latency.Edges, c.Latency.Counts)
	}
	if age := asked.Sub(c.Time); age > 7*time.Second || age < 6*time.Second {
		t.Errorf("its samples are %v old, want 7 s", age)
	}
}

// Missing or impossible data from Prometheus is never used as a figure. The data of other executors is still used.
func TestPrometheusFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*fakeAPI, *exposed)
		want  string
		// read is how many of the two executors can be read.
		read int
	}{
		"healthy":               {func(*fakeAPI, *exposed) {}, "", 2},
		"fewer replicas":        {func(f *fakeAPI, _ *exposed) { delete(f.all, "b:1") }, "selects the series of 1 executors: want the 2 under control", 1},
		"nobody":                {func(f *fakeAPI, _ *exposed) { clear(f.all) }, "selects the series of 0 executors", 0},
		"no percent":            {func(_ *fakeAPI, x *exposed) { x.gone = []string{percentSeries} }, "no series ml_rollout_percent", 1},
		"percent NaN":           {func(_ *fakeAPI, x *exposed) { x.percent = math.NaN() }, "ml_rollout_percent is NaN", 1},
		"no process":            {func(_ *fakeAPI, x *exposed) { x.gone = []string{processSeries} }, "no series process_start_time_seconds", 1},
		"outcome missing":       {func(_ *fakeAPI, x *exposed) { x.gone = []string{outcomesSeries + "deadline"} }, `no series ml_shadow_outcomes_total{outcome="deadline"}`, 1},
		"count NaN":             {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = math.NaN() }, "a count of NaN", 1},
		"count negative":        {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = -1 }, "a count of -1", 1},
		"count infinite":        {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = math.Inf(1) }, "a count of +Inf", 1},
		"no histogram":          {func(_ *fakeAPI, x *exposed) { x.gone = []string{latencySeries} }, `no bucket le="+Inf"`, 1},
		"no last bucket":        {func(_ *fakeAPI, x *exposed) { x.gone = []string{latencySeries + "+Inf"} }, `no bucket le="+Inf"`, 1},
		"buckets fall":          {func(_ *fakeAPI, x *exposed) { x.buckets = []float64{90, 99, 98, 100} }, "ml_shadow_latency_ms_bucket falls at 80 ms", 1},
		"bucket of no edge":     {func(_ *fakeAPI, x *exposed) { x.edges[0] = "one" }, `the bucket "one"`, 1},
		"not scraped":           {func(_ *fakeAPI, x *exposed) { x.age = 61 * time.Second }, "its samples are 1m1s old", 1},
		"part of an answer":     {func(f *fakeAPI, _ *exposed) { f.warning = "a store is away" }, "a store is away", 0},
		"something else":        {func(f *fakeAPI, _ *exposed) { f.scalar = true }, "*model.Scalar instead of a vector", 0},
		"percent above 100":     {func(_ *fakeAPI, x *exposed) { x.percent = 101 }, "ml_rollout_percent is 101", 1},
		"count with a fraction": {func(_ *fakeAPI, x *exposed) { x.outcomes[shadow.Match] = 10.7 }, "a count of 10.7", 1},
		"edge negative":         {func(_ *fakeAPI, x *exposed) { x.edges[0] = "-60" }, `the bucket "-60"`, 1},
		"edge NaN":              {func(_ *fakeAPI, x *exposed) { x.edges[0] = "NaN" }, `the bucket "NaN"`, 1},
		"bucket twice":          {func(_ *fakeAPI, x *exposed) { x.edges[1] = "1.0" }, "has the bucket of 1 ms twice", 1},
		"process NaN":           {func(_ *fakeAPI, x *exposed) { x.process = math.NaN() }, "process_start_time_seconds is NaN", 1},
		"process tomorrow":      {func(_ *fakeAPI, x *exposed) { x.process = float64(time.Now().Unix()) + 86400 }, "process_start_time_seconds is", 1},
		"age negative":          {func(_ *fakeAPI, x *exposed) { x.age = -time.Hour }, "its samples are -3600 s old", 1},
		"age missing": {func(f *fakeAPI, _ *exposed) {
			f.edit = onB(drop)
		}, "the age of its samples is unknown", 1},
		"age NaN":      {func(f *fakeAPI, _ *exposed) { f.edit = onB(value("NaN", true)) }, "its samples are NaN s old", 1},
		"age infinite": {func(f *fakeAPI, _ *exposed) { f.edit = onB(value("+Inf", true)) }, "its samples are +Inf s old", 1},
		"series twice": {func(f *fakeAPI, _ *exposed) {
			f.edit = onB(func(s *fakeSample, ages bool) []*fakeSample { return []*fakeSample{s, s} })
		}, "twice", 1},
		"another label on one series": {func(f *fakeAPI, _ *exposed) {
			f.edit = onB(func(s *fakeSample, ages bool) []*fakeSample {
				if s.Metric["outcome"] == "internal" {
					s.Metric["le"] = "x"
				}
				return []*fakeSample{s}
			})
		}, "the series of 3 executors: want the 2 under control", 1},
		"unknown outcome": {func(f *fakeAPI, _ *exposed) {
			f.edit = onB(func(s *fakeSample, ages bool) []*fakeSample {
				if s.Metric["outcome"] == "internal" {
					return []*fakeSample{s, {Metric: map[string]string{"__name__": outcomesSeries, "instance": "b:1", "job": "executor", "outcome": "tomorrow"}, Value: s.Value}}
				}
				return []*fakeSample{s}
			})
		}, "unknown outcome", 1},
		"a series nobody asked for": {func(f *fakeAPI, _ *exposed) {
			f.edit = onB(func(s *fakeSample, ages bool) []*fakeSample {
				if s.Metric["__name__"] == processSeries {
					s.Metric["__name__"] = "up"
				}
				return []*fakeSample{s}
			})
		}, `"up" was not requested`, 1},
		"samples of 1970":     {func(f *fakeAPI, _ *exposed) { f.edit = at(0) }, "the answer is from 1970", 0},
		"samples of tomorrow": {func(f *fakeAPI, _ *exposed) { f.edit = at(time.Now().Unix() + 86400) }, "the answer is from", 0},
		"null sample": {func(f *fakeAPI, _ *exposed) {
			f.edit = func(*fakeSample, bool) []*fakeSample { return []*fakeSample{nil} }
		}, "prometheus http", 0},
		"more replicas than executors": {func(f *fakeAPI, _ *exposed) {
			f.all["c:1"] = newExposed()
			f.all["c:1"].process = 5000
		}, "selects the series of 3 executors: want the 2 under control", 3},
		"scraped by two jobs": {func(_ *fakeAPI, x *exposed) { x.process = 1000 }, "are one process", 0},
		"one id under two names": {func(f *fakeAPI, x *exposed) {
			x.instance, f.all["a:1"].instance = "same", "same"
		}, `are one process ("same")`, 0},
		"two that started at once": {func(f *fakeAPI, x *exposed) {
			x.process, x.instance, f.all["a:1"].instance = 1000, "id-b", "id-a"
		}, "", 2},
		"a minute is enough": {func(_ *fakeAPI, x *exposed) { x.age = 59 * time.Second }, "", 2},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			b := newExposed()
			b.process = 1001
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

// onB edits the samples of the second executor alone.
func onB(edit func(*fakeSample, bool) []*fakeSample) func(*fakeSample, bool) []*fakeSample {
	return func(s *fakeSample, ages bool) []*fakeSample {
		if s.Metric["instance"] != "b:1" {
			return []*fakeSample{s}
		}
		return edit(s, ages)
	}
}

func drop(s *fakeSample, gone bool) []*fakeSample {
	if gone {
		return nil
	}
	return []*fakeSample{s}
}

func value(v string, ofAge bool) func(*fakeSample, bool) []*fakeSample {
	return func(s *fakeSample, ages bool) []*fakeSample {
		if ages == ofAge {
			s.Value[1] = v
		}
		return []*fakeSample{s}
	}
}

func at(seconds int64) func(*fakeSample, bool) []*fakeSample {
	return func(s *fakeSample, _ bool) []*fakeSample {
		s.Value[0] = seconds
		return []*fakeSample{s}
	}
}

// Whatever a Prometheus server, or a proxy in front of it, answers, the result is an error of that source, quickly and with
// little memory.
func TestPrometheusOddAnswers(t *testing.T) {
	t.Parallel()
	const vector = `{"status":"success","data":{"resultType":"vector","result":[`
	body := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"null":             {body("null"), "<nil> instead of a vector"},
		"nothing":          {body(""), "prometheus http"},
		"empty object":     {body("{}"), "<nil> instead of a vector"},
		"no data":          {body(`{"status":"success"}`), "prometheus http"},
		"data null":        {body(`{"status":"success","data":null}`), "<nil> instead of a vector"},
		"result null":      {body(`{"status":"success","data":{"resultType":"vector","result":null}}`), "selects the series of 0 executors"},
		"null sample":      {body(vector + `null]}}`), "prometheus http"},
		"sample of null":   {body(vector + `{"metric":null,"value":null}]}}`), "prometheus http"},
		"value of strings": {body(vector + `{"metric":{},"value":["x","y"]}]}}`), "prometheus http"},
		"value too short":  {body(vector + `{"metric":{},"value":[]}]}}`), "prometheus http"},
		"histogram":        {body(vector + `{"metric":{},"histogram":[1,{"count":"5","sum":"1"}]}]}}`), "prometheus http"},
		"matrix":           {body(`{"status":"success","data":{"resultType":"matrix","result":[]}}`), "instead of a vector"},
		"string":           {body(`{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`), "prometheus http"},
		"type of tomorrow": {body(`{"status":"success","data":{"resultType":"tensor","result":[]}}`), "prometheus http"},
		"list":             {body("[]"), "prometheus http"},
		"number":           {body("7"), "prometheus http"},
		"HTML":             {body("<html>login</html>"), "prometheus http"},
		"cut short":        {body(vector + `{"met`), "prometheus http"},
		"error":            {body(`{"status":"error","errorType":"x","error":"boom"}`), "boom"},
		"deep":             {body(strings.Repeat("[", 1e6)), "prometheus http"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.example/login?token=s3cret", http.StatusFound)
		}, "it redirects to http://elsewhere.example: give"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, vector)
			for filler := strings.Repeat(" ", 1<<16); r.Context().Err() == nil; {
				if _, err := io.WriteString(w, filler); err != nil {
					return
				}
			}
		}, "request body too large"},
		"endless when unpacked": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for filler := make([]byte, 1<<16); ; {
				if _, err := z.Write(filler); err != nil {
					return
				}
			}
		}, "request body too large"},
		"hanging": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, vector)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "deadline exceeded"},
		"endless error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, strings.Repeat("\x1b[2J", 1<<20))
		}, "prometheus http"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			source := sourceOf(t, test.handler, 1)
			timeout := 10 * time.Second
			if name == "hanging" {
				timeout = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			all, err := source.Read(ctx)
			if err == nil || len(all) > 0 || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
				t.Fatalf("%+v, %v, want %q", all, err, test.want)
			}
			if text := err.Error(); len(text) > 1000 || strings.Contains(text, "\x1b") {
				t.Errorf("the error has %d bytes", len(text))
			}
		})
	}
}

// A credential comes from a file or the URL, reaches Prometheus, and is not written anywhere.
func TestPrometheusCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var seen string
	var mu sync.Mutex
	api := &fakeAPI{all: map[string]*exposed{"a:1": newExposed()}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = r.Header.Get("Authorization")
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	const basic = "Basic b3BzOnMzY3JldA==" // ops:s3cret
	host := strings.TrimPrefix(server.URL, "http://")
	for name, test := range map[string]struct {
		url            string
		opts           PrometheusOptions
		authorization  string
		fault, refused string
	}{
		"none":               {url: server.URL},
		"in the URL":         {url: "http://ops:s3cret@" + host, authorization: basic},
		"basic file":         {url: server.URL, opts: PrometheusOptions{BasicFile: file("basic", "ops:s3cret\n")}, authorization: basic},
		"token file":         {url: server.URL, opts: PrometheusOptions{TokenFile: file("token", "s3cret\r\n")}, authorization: "Bearer s3cret"},
		"file wins":          {url: "http://a:b@" + host, opts: PrometheusOptions{BasicFile: file("basic2", "ops:s3cret")}, authorization: basic},
		"both files":         {url: server.URL, opts: PrometheusOptions{TokenFile: file("t", "s3cret"), BasicFile: file("b", "a:s3cret")}, refused: "give one of them"},
		"no such file":       {url: server.URL, opts: PrometheusOptions{TokenFile: filepath.Join(dir, "absent")}, refused: "--prometheus-token-file: "},
		"empty file":         {url: server.URL, opts: PrometheusOptions{TokenFile: file("empty", "\n")}, refused: "the file is empty"},
		"byte order mark":    {url: server.URL, opts: PrometheusOptions{TokenFile: file("bom", "\ufeffs3cret")}, refused: "printable ASCII"},
		"two lines":          {url: server.URL, opts: PrometheusOptions{TokenFile: file("lines", "s3cret\nold")}, refused: "one line"},
		"token with a blank": {url: server.URL, opts: PrometheusOptions{TokenFile: file("blank", "s3cret #old")}, refused: "no spaces"},
		"no colon":           {url: server.URL, opts: PrometheusOptions{BasicFile: file("colon", "s3cret")}, refused: "want user:password"},
		"a folder":           {url: server.URL, opts: PrometheusOptions{TokenFile: dir}, refused: "not a regular file"},
		"too large":          {url: server.URL, opts: PrometheusOptions{TokenFile: file("large", strings.Repeat("s3cret", 1000))}, refused: "too large"},
		"in the clear":       {url: "http://prometheus.example:9090", opts: PrometheusOptions{TokenFile: file("clear", "s3cret")}, refused: "only over https"},
		"URL in the clear":   {url: "http://ops:s3cret@10.0.0.7:9090", refused: "only over https"},
		"no certificates":    {url: server.URL, opts: PrometheusOptions{CA: file("ca", "none")}, refused: "no certificate in it"},
		"another CA":         {url: "https://" + host, opts: PrometheusOptions{BasicFile: file("basic3", "ops:s3cret")}, fault: "prometheus https://"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { // sequentially, because they share the variable seen
			o := test.opts
			o.Match = DefaultMatch
			if err := o.SetURL(test.url); err != nil {
				t.Fatal(err)
			}
			source, err := NewPrometheus(o, 1)
			if test.refused == "" && err != nil || test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)) {
				t.Fatalf("got %v, want %q", err, test.refused)
			}
			if err != nil {
				if strings.Contains(err.Error(), "s3cret") {
					t.Errorf("it is in the error: %v", err)
				}
				return
			}
			_, err = source.Read(t.Context())
			if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), "s3cret")) {
				t.Fatalf("got %v, want %q", err, test.fault)
			}
			mu.Lock()
			defer mu.Unlock()
			if test.fault == "" && seen != test.authorization {
				t.Errorf("Prometheus saw %q, want %q", seen, test.authorization)
			}
			if raw, err := json.Marshal(o); err != nil || strings.Contains(string(raw), "s3cret") || strings.Contains(o.URL, "s3cret") {
				t.Errorf("it is in the options: %s, %v", raw, err)
			}
		})
	}
}

// Proxy variables in the environment do not redirect queries.
func TestPrometheusIgnoresProxies(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	source, err := NewPrometheus(PrometheusOptions{URL: "http://prometheus.invalid:9090", Match: DefaultMatch}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Read(t.Context()); err == nil {
		t.Error("the query was answered")
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
	for _, address := range []string{"", "127.0.0.1:9090", "ftp://127.0.0.1", "http://", "http://:9090", "%", "http://ops:s3cret@h:%zz/", "http://h/?token=s3cret", "http://h/#s3cret"} {
		var o PrometheusOptions
		if err := o.SetURL(address); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// The real Prometheus scrapes two executors, one of which restarts and then goes away.
func TestRealPrometheus(t *testing.T) {
	t.Parallel()
	a, b := newExposed(), newExposed()
	b.process = 1001
	a.instance, b.instance, a.requests, b.requests = "id-a", "id-b", 550, 550
	serverA, serverB := httptest.NewServer(a), httptest.NewServer(b)
	t.Cleanup(serverA.Close)
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	p := promtest.Start(t, promtest.Options{Config: fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: executor
    static_configs: [{targets: ['%s', '%s']}]
`, host(serverA), host(serverB))})
	source, err := NewPrometheus(PrometheusOptions{URL: p.URL, Match: DefaultMatch}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var all []Counters
	p.Await("have scraped both", func() bool {
		all, err = source.Read(t.Context())
		return err == nil
	})
	if len(all) != 2 || !slices.Equal(all[0].Latency.Counts, []uint64{90, 9, 1, 0}) || all[0].Percent != 5 || time.Since(all[0].Time) > maxSampleAge {
		t.Fatalf("%+v", all)
	}
	var counted Span
	counted.Begin(all)
	b.change(func(x *exposed) { x.process, x.outcomes[shadow.Match] = 2000, 1 })
	p.Await("have seen the restart", func() bool {
		all, err = source.Read(t.Context())
		return err == nil && counted.Extend(all) != nil
	})
	if err := counted.Extend(all); !strings.Contains(err.Error(), Restarted) || !strings.Contains(err.Error(), host(serverB)) {
		t.Errorf("got %v", err)
	}
	serverB.Close()
	p.Await("miss the one that went away", func() bool {
		all, err = source.Read(t.Context())
		// Its series may end between the two queries of a read. Then one of them is missing, which is also an error.
		return err != nil && strings.Contains(err.Error(), "selects the series of 1 executors: want the 2 under control")
	})
	if len(all) != 1 {
		t.Errorf("%d read, %v", len(all), err)
	}
}
