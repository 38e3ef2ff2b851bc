package fleet

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

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// DefaultMatch selects the executors' series in a Prometheus server that is configured as in deploy/prometheus.
const DefaultMatch = `job="executor"`

// The series that are read. The start time and the id of the process distinguish restarts and replicas. The other series are
// also in an executor's own report. Older executors export neither infoSeries nor sourcesSeries.
const (
	outcomesSeries = "ml_shadow_outcomes_total"
	latencySeries  = "ml_shadow_latency_ms_bucket"
	requestsSeries = "ml_baseline_latency_ms_count"
	percentSeries  = "ml_rollout_percent"
	processSeries  = "process_start_time_seconds"
	infoSeries     = "ml_executor_info"
	sourcesSeries  = "ml_decision_requests_total"
	instanceLabel  = "instance_id"
)

// maxSampleAge bounds the age of the newest sample of an executor. An older sample means that the target is no longer scraped:
// Prometheus still returns it for five minutes.
const maxSampleAge = time.Minute

// Prometheus reads the counters of all executors from a Prometheus server.
type Prometheus struct {
	api      promv1.API
	url      string
	match    string
	replicas int
}

// NewPrometheus returns a reader. The series must belong to exactly the given number of executors.
func NewPrometheus(o PrometheusOptions, replicas int) (*Prometheus, error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	return &Prometheus{api: client, url: o.URL, match: o.Match, replicas: replicas}, nil
}

func (p *Prometheus) fail(format string, args ...any) error {
	return fmt.Errorf("prometheus %s: %w", p.url, fmt.Errorf(format, args...))
}

// Read returns the counters that could be read, and an error that names those that could not. Both may be set.
func (p *Prometheus) Read(ctx context.Context) ([]Counters, error) {
	// Read the ages first, so that the counts are at least as new. Both use the server's own time, since its clock may differ.
	asked := time.Now()
	ages, err := p.query(ctx, fmt.Sprintf("time() - timestamp(%s{%s})", percentSeries, p.match))
	if err != nil {
		return nil, err
	}
	names := strings.Join([]string{outcomesSeries, latencySeries, requestsSeries, percentSeries, processSeries, infoSeries, sourcesSeries}, "|")
	samples, err := p.query(ctx, fmt.Sprintf("{__name__=~%q,%s}", names, p.match))
	if err != nil {
		return nil, err
	}
	replicas := make(map[string]*replica)
	for _, s := range ages {
		replicaOf(replicas, s, "").setAge(float64(s.Value))
	}
	for _, s := range samples {
		replicaOf(replicas, s, ownLabel[s.Metric[model.MetricNameLabel]]).add(s)
	}
	var all []Counters
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(replicas)) {
		c, err := replicas[name].counters(name, asked)
		if err != nil {
			errs = append(errs, p.fail("%s: %w", text.Clean(name, maxMessageShown), err))
			continue
		}
		all = append(all, c)
	}
	if n := len(replicas); n != p.replicas {
		errs = append(errs, p.fail("{%s} selects the series of %d executors: want the %d under control", p.match, n, p.replicas))
	}
	if err := scrapedTwice(all); err != nil {
		return nil, errors.Join(append(errs, p.fail("%w", err))...)
	}
	return all, errors.Join(errs...)
}

// scrapedTwice returns an error if two replicas are one process: two jobs scrape it, or it has two names. Unless all replicas
// export their ids, two that started at the same time count as one process.
func scrapedTwice(all []Counters) error {
	var names, processes []string
	known := !slices.ContainsFunc(all, func(c Counters) bool { return c.Instance == "" })
	for _, c := range all {
		process := c.Instance
		if !known {
			process, _, _ = strings.Cut(c.Process, " ")
		}
		names, processes = append(names, text.Clean(c.Executor, maxMessageShown)), append(processes, process)
	}
	return CheckDistinct("executor", names, processes)
}

func (p *Prometheus) query(ctx context.Context, expr string) (model.Vector, error) {
	value, warnings, _, err := p.api.Query(ctx, expr, time.Time{})
	if call := (*url.Error)(nil); errors.As(err, &call) {
		err = call.Err // its own text repeats the address
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, p.fail("%w", context.Cause(ctx))
	case err != nil:
		return nil, p.fail("%s", text.Clean(err.Error(), maxMessageShown))
	case len(warnings) > 0: // a part of the answer is missing
		return nil, p.fail("%s", text.Clean(strings.Join(warnings, "; "), maxMessageShown))
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return nil, p.fail("the answer is %T instead of a vector", value)
	}
	for _, s := range vector {
		switch {
		case s == nil || s.Histogram != nil:
			return nil, p.fail("the answer has an entry that is not a sample")
		case time.Since(s.Timestamp.Time()).Abs() > MaxClockDifference:
			return nil, p.fail("the answer is from %s, but the time here is %s", s.Timestamp.Time().UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
		}
	}
	return vector, nil
}

// replica is the series of one executor.
type replica struct {
	age, percent, process, requests *float64
	instance                        string
	outcomes                        map[string]uint64
	sources                         evidence.Sources
	buckets                         []bucket
	// fault is the first impossible value.
	fault error
}

// bucket counts the latencies up to its edge.
type bucket struct {
	edge  float64
	count uint64
}

// ownLabel maps the name of a series to the label that differs between the series of one replica.
var ownLabel = map[model.LabelValue]model.LabelName{outcomesSeries: "outcome", latencySeries: model.BucketLabel, infoSeries: instanceLabel, sourcesSeries: "source"}

// replicaOf returns the replica of a sample, identified by all its labels except the name and the own label.
func replicaOf(all map[string]*replica, s *model.Sample, own model.LabelName) *replica {
	labels := s.Metric.Clone()
	delete(labels, model.MetricNameLabel)
	delete(labels, own)
	name := labels.String()
	if all[name] == nil {
		all[name] = &replica{outcomes: make(map[string]uint64)}
	}
	return all[name]
}

func (r *replica) fail(format string, args ...any) {
	if r.fault == nil {
		r.fault = fmt.Errorf(format, args...)
	}
}

// setAge sets the age of the newest sample, in seconds.
func (r *replica) setAge(seconds float64) {
	if !(seconds >= 0 && seconds < float64(math.MaxInt32)) {
		r.fail("its samples are %v s old", seconds)
		return
	}
	r.once(&r.age, "age", seconds)
}

// once sets a value that must occur only once.
func (r *replica) once(at **float64, name string, v float64) {
	if *at != nil {
		r.fail("%s occurs twice", name)
	}
	*at = &v
}

func (r *replica) add(s *model.Sample) {
	v := float64(s.Value)
	switch name := s.Metric[model.MetricNameLabel]; name {
	case percentSeries:
		r.once(&r.percent, string(name), v)
	case processSeries:
		r.once(&r.process, string(name), v)
	case requestsSeries:
		r.once(&r.requests, string(name), float64(r.count(v)))
	case infoSeries:
		if r.instance != "" {
			r.fail("%s occurs twice", name)
		}
		r.instance = text.Clean(string(s.Metric[instanceLabel]), maxMessageShown)
	case outcomesSeries:
		word := string(s.Metric["outcome"])
		if _, twice := r.outcomes[word]; twice {
			r.fail("%s{outcome=%q} occurs twice", outcomesSeries, text.Clean(word, maxMessageShown))
		}
		r.outcomes[word] = r.count(v)
	case sourcesSeries:
		source := evidence.Source(s.Metric["source"])
		if _, twice := r.sources[source]; twice || !source.Valid() {
			r.fail("%s{source=%q} occurs twice or is unknown", sourcesSeries, text.Clean(string(source), maxMessageShown))
			return
		}
		if r.sources == nil {
			r.sources = make(evidence.Sources)
		}
		r.sources[source] = r.count(v)
	case latencySeries:
		label := string(s.Metric[model.BucketLabel])
		edge, err := strconv.ParseFloat(label, 64)
		if err != nil || !(edge > 0) {
			r.fail("%s has the bucket %q", latencySeries, text.Clean(label, maxMessageShown))
			return
		}
		r.buckets = append(r.buckets, bucket{edge, r.count(v)})
	default:
		r.fail("%q was not requested", text.Clean(string(name), maxMessageShown))
	}
}

// count returns a value that must be a count.
func (r *replica) count(v float64) uint64 {
	if !(v >= 0 && v < 1<<53) || v != math.Trunc(v) {
		r.fail("a count of %v", v)
		return 0
	}
	return uint64(v)
}

// counters returns the counters of the replica, which were requested at the given time.
func (r *replica) counters(name string, asked time.Time) (Counters, error) {
	switch {
	case r.fault != nil:
		return Counters{}, r.fault
	case r.percent == nil:
		return Counters{}, fmt.Errorf("no series %s", percentSeries)
	case !(*r.percent >= 0 && *r.percent <= 100):
		return Counters{}, fmt.Errorf("%s is %v", percentSeries, *r.percent)
	case r.process == nil:
		return Counters{}, fmt.Errorf("no series %s", processSeries)
	case !(*r.process > 0) || *r.process > float64(asked.Add(MaxClockDifference).Unix()):
		return Counters{}, fmt.Errorf("%s is %v", processSeries, *r.process)
	case r.age == nil:
		return Counters{}, errors.New("the age of its samples is unknown")
	}
	age := time.Duration(*r.age * float64(time.Second))
	if age > maxSampleAge {
		return Counters{}, fmt.Errorf("its samples are %s old: it is no longer scraped, or too rarely", age.Round(time.Second))
	}
	c := Counters{
		Executor: name, Process: strings.TrimSpace(strconv.FormatFloat(*r.process, 'f', -1, 64) + " " + r.instance), Instance: r.instance,
		Time: asked.Add(-age), Percent: *r.percent, Counts: Counts{Outcomes: r.outcomes, Sources: r.sources},
	}
	for _, o := range shadow.Outcomes() {
		n, ok := r.outcomes[o.String()]
		if !ok {
			return Counters{}, fmt.Errorf("no series %s{outcome=%q}", outcomesSeries, o)
		}
		c.Requests += n
	}
	if len(r.outcomes) != len(shadow.Outcomes()) {
		return Counters{}, fmt.Errorf("%s has an unknown outcome", outcomesSeries)
	}
	if r.requests != nil {
		c.Requests = uint64(*r.requests)
	}
	err := r.latencies(&c)
	return c, err
}

// latencies adds the histogram.
func (r *replica) latencies(c *Counters) error {
	var below uint64
	before := 0.0
	slices.SortFunc(r.buckets, func(a, b bucket) int { return cmp.Compare(a.edge, b.edge) })
	for _, b := range r.buckets {
		switch {
		case b.edge == before:
			return fmt.Errorf("%s has the bucket of %g ms twice", latencySeries, b.edge)
		case b.count < below:
			return fmt.Errorf("%s falls at %g ms", latencySeries, b.edge)
		}
		if !math.IsInf(b.edge, 1) {
			c.Latency.Edges = append(c.Latency.Edges, b.edge)
		}
		c.Latency.Counts = append(c.Latency.Counts, b.count-below)
		below, before = b.count, b.edge
	}
	if n := len(r.buckets); n == 0 || !math.IsInf(r.buckets[n-1].edge, 1) {
		return fmt.Errorf("%s has no bucket le=\"+Inf\"", latencySeries)
	}
	return nil
}
