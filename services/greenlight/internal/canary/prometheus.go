package canary

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// DefaultMatch selects the executors' series in a Prometheus that is configured as deploy/prometheus is.
const DefaultMatch = `job="executor"`

// The series that a look is made of. The process's start tells a restart; the rest is what an executor's own report has.
const (
	outcomesSeries = "ml_shadow_outcomes_total"
	latencySeries  = "ml_shadow_latency_ms_bucket"
	percentSeries  = "ml_rollout_percent"
	processSeries  = "process_start_time_seconds"
)

// maxSampleAge is how old the newest sample of an executor may be. An older one is of a target that is not scraped any
// more: Prometheus goes on to answer with it for five minutes.
const maxSampleAge = time.Minute

// SourceOf is where the plan says that the counts come from; nil asks the executors.
func SourceOf(p *Plan) (Source, error) {
	if p.Prometheus == "" {
		return nil, nil //nolint:nilnil // no source is one of the two answers
	}
	return NewPrometheus(p.Prometheus, p.Match, len(p.Executors))
}

// Readable says why the counts cannot be read now from where the plan says: a canary that is begun all the same would
// hold its first phase, and stop.
func Readable(ctx context.Context, p *Plan) error {
	source, err := SourceOf(p)
	if source == nil || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, worldTimeout)
	defer cancel()
	if _, err := source.Read(ctx); err != nil {
		return refuse(errNoMetrics, "%s", oneLine(err))
	}
	return nil
}

// Prometheus is the source that asks a Prometheus for the series of all replicas.
type Prometheus struct {
	api      promv1.API
	url      string
	match    string
	replicas int
}

// NewPrometheus returns the source at the URL. Match is what selects the executors' series, as in PromQL's braces, and
// replicas how many of them there must be at least.
func NewPrometheus(address, match string, replicas int) (*Prometheus, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("prometheus %q: want a URL such as http://127.0.0.1:9090", address)
	}
	client, err := api.NewClient(api.Config{Address: address})
	if err != nil {
		return nil, fmt.Errorf("prometheus %q: %w", address, err)
	}
	return &Prometheus{api: promv1.NewAPI(client), url: address, match: match, replicas: replicas}, nil
}

// Read implements [Source].
func (p *Prometheus) Read(ctx context.Context) ([]Counters, error) {
	// The ages first, so that the counts are at least as new. Both at the server's own time: its clock may differ.
	asked := time.Now()
	ages, err := p.query(ctx, fmt.Sprintf("time() - timestamp(%s{%s})", percentSeries, p.match))
	if err != nil {
		return nil, err
	}
	names := strings.Join([]string{outcomesSeries, latencySeries, percentSeries, processSeries}, "|")
	samples, err := p.query(ctx, fmt.Sprintf("{__name__=~%q,%s}", names, p.match))
	if err != nil {
		return nil, err
	}
	replicas := make(map[string]*replica)
	for _, s := range ages {
		replicaOf(replicas, s).age = time.Duration(float64(s.Value) * float64(time.Second))
	}
	for _, s := range samples {
		replicaOf(replicas, s).add(s)
	}
	var all []Counters
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(replicas)) {
		c, err := replicas[name].counters(name, asked)
		if err != nil {
			errs = append(errs, fmt.Errorf("prometheus %s: %s: %w", p.url, name, err))
			continue
		}
		all = append(all, c)
	}
	if n := len(replicas); n < p.replicas {
		errs = append(errs, fmt.Errorf("prometheus %s: {%s} selects the series of %d executors, and %d are under control", p.url, p.match, n, p.replicas))
	}
	return all, errors.Join(errs...)
}

func (p *Prometheus) query(ctx context.Context, expr string) (model.Vector, error) {
	value, warnings, _, err := p.api.Query(ctx, expr, time.Time{})
	if call := (*url.Error)(nil); errors.As(err, &call) {
		err = call.Err // its own text says the address once more
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("prometheus %s: %w", p.url, err)
	case len(warnings) > 0: // part of the answer is missing
		return nil, fmt.Errorf("prometheus %s: %s", p.url, strings.Join(warnings, "; "))
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return nil, fmt.Errorf("prometheus %s: %s instead of a vector", p.url, value.Type())
	}
	return vector, nil
}

// replica is what the series of one executor say.
type replica struct {
	age      time.Duration
	percent  *float64
	process  string
	outcomes map[string]uint64
	buckets  []bucket
	// fault is a value that cannot be.
	fault error
}

// bucket is how many latencies are at most the edge.
type bucket struct {
	edge  float64
	count uint64
}

// replicaOf is the one whose labels the sample has, less those that tell its series apart.
func replicaOf(all map[string]*replica, s *model.Sample) *replica {
	labels := s.Metric.Clone()
	for _, name := range []model.LabelName{model.MetricNameLabel, "outcome", model.BucketLabel} {
		delete(labels, name)
	}
	name := labels.String()
	if all[name] == nil {
		all[name] = &replica{outcomes: make(map[string]uint64)}
	}
	return all[name]
}

func (r *replica) add(s *model.Sample) {
	v := float64(s.Value)
	switch s.Metric[model.MetricNameLabel] {
	case percentSeries:
		r.percent = &v
	case processSeries:
		r.process = strconv.FormatFloat(v, 'f', -1, 64)
	case outcomesSeries:
		r.outcomes[string(s.Metric["outcome"])] = r.count(v)
	case latencySeries:
		edge, err := strconv.ParseFloat(string(s.Metric[model.BucketLabel]), 64)
		if err != nil {
			r.fault = fmt.Errorf("bucket %q of %s: %w", s.Metric[model.BucketLabel], latencySeries, err)
			return
		}
		r.buckets = append(r.buckets, bucket{edge, r.count(v)})
	}
}

// count is a value that counts something.
func (r *replica) count(v float64) uint64 {
	if !(v >= 0 && v < 1<<53) {
		r.fault = fmt.Errorf("a count of %v", v)
		return 0
	}
	return uint64(v)
}

// counters is the replica as a reading of a look that was asked for then.
func (r *replica) counters(name string, asked time.Time) (Counters, error) {
	switch {
	case r.fault != nil:
		return Counters{}, r.fault
	case r.percent == nil || math.IsNaN(*r.percent):
		return Counters{}, fmt.Errorf("no series %s", percentSeries)
	case r.process == "":
		return Counters{}, fmt.Errorf("no series %s", processSeries)
	case r.age > maxSampleAge:
		return Counters{}, fmt.Errorf("its figures are %s old: it is not scraped any more, or too seldom", r.age.Round(time.Second))
	}
	c := Counters{Executor: name, Process: r.process, Time: asked.Add(-r.age), Percent: *r.percent, Outcomes: r.outcomes}
	for _, o := range shadow.Outcomes() {
		n, ok := r.outcomes[o.String()]
		if !ok {
			return Counters{}, fmt.Errorf("no series %s{outcome=%q}", outcomesSeries, o)
		}
		c.Requests += n
	}
	var below uint64
	slices.SortFunc(r.buckets, func(a, b bucket) int { return cmp.Compare(a.edge, b.edge) })
	for _, b := range r.buckets {
		if b.count < below {
			return Counters{}, fmt.Errorf("%s falls at %g ms", latencySeries, b.edge)
		}
		if !math.IsInf(b.edge, 1) {
			c.Edges = append(c.Edges, b.edge)
		}
		c.Latency = append(c.Latency, b.count-below)
		below = b.count
	}
	if n := len(r.buckets); n == 0 || !math.IsInf(r.buckets[n-1].edge, 1) {
		return Counters{}, fmt.Errorf("%s has no bucket le=\"+Inf\"", latencySeries)
	}
	return c, nil
}
