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

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// DefaultMatch selects the executors' series in a Prometheus that is configured as deploy/prometheus is.
const DefaultMatch = `job="executor"`

// The series of a look. The start and the id of the process tell restarts and replicas apart; the others are what an
// executor's own report has. Older executors export neither infoSeries nor sourcesSeries.
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

const (
	// maxSampleAge is how old the newest sample of an executor may be. An older one is of a target that is not scraped any
	// more: Prometheus goes on to answer with it for five minutes.
	maxSampleAge = time.Minute
	// maxShownError bounds what Prometheus says of an error.
	maxShownError = 300
)

// SourceOf returns where the plan reads the counts; nil asks the executors.
func SourceOf(p *Plan) (Source, error) {
	if p.URL == "" {
		return nil, nil //nolint:nilnil // no source is one of the two answers
	}
	return NewPrometheus(p.PrometheusOptions, len(p.Executors))
}

// Readable returns an error if the counts cannot be read now. A canary that starts all the same would hold its first phase,
// and stop.
func Readable(ctx context.Context, p *Plan) error {
	source, err := SourceOf(p)
	if source == nil || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
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

// NewPrometheus returns the source. Its series have to be those of so many executors.
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

// Read implements [Source].
func (p *Prometheus) Read(ctx context.Context) ([]fleet.Counters, error) {
	// The ages first, so that the counts are at least as new. Both at the server's own time: its clock may differ.
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
	var all []fleet.Counters
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(replicas)) {
		c, err := replicas[name].counters(name, asked)
		if err != nil {
			errs = append(errs, p.fail("%s: %w", text.Clean(name, maxShownError), err))
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

// scrapedTwice returns an error if two of the replicas are one process: it is scraped by two jobs, or under two names. If
// not every replica says which it is, two that started at the same time are one.
func scrapedTwice(all []fleet.Counters) error {
	var names, processes []string
	known := !slices.ContainsFunc(all, func(c fleet.Counters) bool { return c.Instance == "" })
	for _, c := range all {
		process := c.Instance
		if !known {
			process, _, _ = strings.Cut(c.Process, " ")
		}
		names, processes = append(names, text.Clean(c.Executor, maxShownError)), append(processes, process)
	}
	return fleet.CheckDistinct("executor", names, processes)
}

func (p *Prometheus) query(ctx context.Context, expr string) (model.Vector, error) {
	value, warnings, _, err := p.api.Query(ctx, expr, time.Time{})
	if call := (*url.Error)(nil); errors.As(err, &call) {
		err = call.Err // its own text has the address once more
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, p.fail("%w", context.Cause(ctx))
	case err != nil:
		return nil, p.fail("%s", text.Clean(err.Error(), maxShownError))
	case len(warnings) > 0: // part of the answer is missing
		return nil, p.fail("%s", text.Clean(strings.Join(warnings, "; "), maxShownError))
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return nil, p.fail("the answer is %T instead of a vector", value)
	}
	for _, s := range vector {
		switch {
		case s == nil || s.Histogram != nil:
			return nil, p.fail("the answer has an entry that is not a sample")
		case time.Since(s.Timestamp.Time()).Abs() > fleet.MaxClockDifference:
			return nil, p.fail("the answer is of %s, and the time here is %s", s.Timestamp.Time().UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
		}
	}
	return vector, nil
}

// replica is what the series of one executor say.
type replica struct {
	age, percent, process, requests *float64
	instance                        string
	outcomes                        map[string]uint64
	sources                         evidence.Sources
	buckets                         []bucket
	// fault is a value that cannot be.
	fault error
}

// bucket is how many latencies are at most the edge.
type bucket struct {
	edge  float64
	count uint64
}

// ownLabel is the label that tells the series of one replica apart, by their name.
var ownLabel = map[model.LabelValue]model.LabelName{outcomesSeries: "outcome", latencySeries: model.BucketLabel, infoSeries: instanceLabel, sourcesSeries: "source"}

// replicaOf returns the replica whose labels the sample has, without its name and the label that is its own.
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

// setAge takes the age of the newest sample, in seconds.
func (r *replica) setAge(seconds float64) {
	if !(seconds >= 0 && seconds < float64(math.MaxInt32)) {
		r.fail("its figures are %v s old", seconds)
		return
	}
	r.once(&r.age, "age", seconds)
}

// once takes a value that there must not be twice.
func (r *replica) once(at **float64, name string, v float64) {
	if *at != nil {
		r.fail("%s is there twice", name)
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
			r.fail("%s is there twice", name)
		}
		r.instance = text.Clean(string(s.Metric[instanceLabel]), maxShownError)
	case outcomesSeries:
		word := string(s.Metric["outcome"])
		if _, twice := r.outcomes[word]; twice {
			r.fail("%s{outcome=%q} is there twice", outcomesSeries, text.Clean(word, maxShownError))
		}
		r.outcomes[word] = r.count(v)
	case sourcesSeries:
		source := evidence.Source(s.Metric["source"])
		if _, twice := r.sources[source]; twice || !source.Valid() {
			r.fail("%s{source=%q} is there twice or not known", sourcesSeries, text.Clean(string(source), maxShownError))
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
			r.fail("%s has the bucket %q", latencySeries, text.Clean(label, maxShownError))
			return
		}
		r.buckets = append(r.buckets, bucket{edge, r.count(v)})
	default:
		r.fail("%q was not asked for", text.Clean(string(name), maxShownError))
	}
}

// count is a value that counts something.
func (r *replica) count(v float64) uint64 {
	if !(v >= 0 && v < 1<<53) || v != math.Trunc(v) {
		r.fail("a count of %v", v)
		return 0
	}
	return uint64(v)
}

// counters is the replica as a reading of a look that was asked for then.
func (r *replica) counters(name string, asked time.Time) (fleet.Counters, error) {
	switch {
	case r.fault != nil:
		return fleet.Counters{}, r.fault
	case r.percent == nil:
		return fleet.Counters{}, fmt.Errorf("no series %s", percentSeries)
	case !(*r.percent >= 0 && *r.percent <= 100):
		return fleet.Counters{}, fmt.Errorf("%s is %v", percentSeries, *r.percent)
	case r.process == nil:
		return fleet.Counters{}, fmt.Errorf("no series %s", processSeries)
	case !(*r.process > 0) || *r.process > float64(asked.Add(fleet.MaxClockDifference).Unix()):
		return fleet.Counters{}, fmt.Errorf("%s is %v", processSeries, *r.process)
	case r.age == nil:
		return fleet.Counters{}, errors.New("the age of its figures is not known")
	}
	age := time.Duration(*r.age * float64(time.Second))
	if age > maxSampleAge {
		return fleet.Counters{}, fmt.Errorf("its figures are %s old: it is not scraped any more, or too seldom", age.Round(time.Second))
	}
	c := fleet.Counters{
		Executor: name, Process: strings.TrimSpace(strconv.FormatFloat(*r.process, 'f', -1, 64) + " " + r.instance), Instance: r.instance,
		Time: asked.Add(-age), Percent: *r.percent, Counts: fleet.Counts{Outcomes: r.outcomes, Sources: r.sources},
	}
	for _, o := range shadow.Outcomes() {
		n, ok := r.outcomes[o.String()]
		if !ok {
			return fleet.Counters{}, fmt.Errorf("no series %s{outcome=%q}", outcomesSeries, o)
		}
		c.Requests += n
	}
	if len(r.outcomes) != len(shadow.Outcomes()) {
		return fleet.Counters{}, fmt.Errorf("%s has an unknown outcome", outcomesSeries)
	}
	if r.requests != nil {
		c.Requests = uint64(*r.requests)
	}
	err := r.latencies(&c)
	return c, err
}

// latencies adds the histogram.
func (r *replica) latencies(c *fleet.Counters) error {
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
