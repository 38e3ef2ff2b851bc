package monitor

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// The feature labels of the means over the model's features: the plain mean, and the mean weighted by feature.
const (
	overall         = "overall"
	overallWeighted = "overall_weighted"
)

var (
	psiDesc = prometheus.NewDesc("ml_psi_score",
		"Population stability index of the last 7 days against the model's reference; NaN without rows.", []string{"feature"}, nil)
	psi28Desc = prometheus.NewDesc("ml_psi_score_28d",
		"Population stability index of the last 28 days against the model's reference; NaN without rows.", []string{"feature"}, nil)
	samplesDesc = prometheus.NewDesc("ml_psi_samples",
		"Rows of the last 7 days behind ml_psi_score.", []string{"feature"}, nil)
	q99Desc = prometheus.NewDesc("ml_psi_null_q99",
		"The 99 % quantile of ml_psi_score without drift; NaN if unknown.", []string{"feature"}, nil)
	daysDesc = prometheus.NewDesc("ml_psi_days",
		"Days of the last 7 with at least one row; an index of fewer than 5 is not judged.", []string{"feature"}, nil)
	referenceDaysDesc = prometheus.NewDesc("ml_psi_reference_days",
		"Days of the reference; an index against fewer than 5 is not judged.", nil, nil)
	binDesc = prometheus.NewDesc("ml_feature_bin_total",
		"Rows by bin of the reference since start, or since the model was activated. The bin's name ends in the first digits of the "+
			"reference's digest, so that rows of different references are never added.", []string{"feature", "bin"}, nil)
	ratioDesc = prometheus.NewDesc("ml_feature_reference_ratio",
		"Share of the reference's rows by bin, in [0,1].", []string{"feature", "bin"}, nil)
	roleDesc = prometheus.NewDesc("ml_feature_role",
		"Always 1; the role of a watched feature is feature, score or input. The overall index is the mean over role feature.",
		[]string{"feature", "role"}, nil)
	ignoredDesc = prometheus.NewDesc("ml_drift_event_time_ignored_total",
		"Rows counted by event time whose event time is invalid: before 1973, after 2199 or ahead of the clock. They count in the newest hour.", nil, nil)
	writeErrorsDesc = prometheus.NewDesc("ml_drift_state_write_errors_total",
		"Failed writes of the drift counts to the state folder.", nil, nil)
)

// RegisterMetrics exports the active watch.
func (m *Monitor) RegisterMetrics(reg prometheus.Registerer) {
	reg.MustRegister(&collector{monitor: m})
}

// collector reads the active watch at a scrape.
type collector struct {
	monitor *Monitor

	mu     sync.Mutex
	latest gauges
}

// gauges are indices, cached between scrapes.
type gauges struct {
	watch       *Watch
	rows        uint64
	time        time.Time
	week, month indices
}

// indices are the indices of one window.
type indices struct {
	counts   *drift.Counts
	overall  float64 // NaN without rows, like features
	features []float64
}

func indicesOf(p *drift.Profile, c *drift.Counts) indices {
	v := indices{counts: c}
	v.overall, v.features = p.PSI(c)
	return v
}

// staleAfter is how old the gauges may be while rows arrive; they change over days.
const staleAfter = 5 * time.Second

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		psiDesc, psi28Desc, samplesDesc, q99Desc, daysDesc, referenceDaysDesc, binDesc, ratioDesc, roleDesc, ignoredDesc, writeErrorsDesc,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := telemetry.Sink(to)
	s.Counter(writeErrorsDesc, c.monitor.writeErrors.Load())
	s.Counter(ignoredDesc, c.monitor.ignored.Load())
	w := c.monitor.Active()
	if w == nil {
		return
	}
	totals := w.totals()
	for i := range w.profile.Features {
		f := &w.profile.Features[i]
		s.Gauge(roleDesc, 1, f.Name, string(f.Role))
		for b, share := range f.Shares {
			s.Gauge(ratioDesc, share, f.Name, w.bins[i][b])
			s.Counter(binDesc, totals[i][b], f.Name, w.bins[i][b])
		}
	}
	g := c.gauges(w)
	s.Gauge(psiDesc, g.week.overall, overall)
	s.Gauge(psi28Desc, g.month.overall, overall)
	s.Gauge(samplesDesc, float64(g.week.counts.Rows()), overall)
	days := len(g.week.counts.Days())
	s.Gauge(q99Desc, q99(w, days, func(n *drift.Null) drift.Noise { return n.Overall }), overall)
	s.Gauge(daysDesc, float64(days), overall)
	s.Gauge(referenceDaysDesc, float64(len(w.profile.Days)))
	if week, ok := w.profile.Weighted(g.week.features); ok {
		month, _ := w.profile.Weighted(g.month.features)
		s.Gauge(psiDesc, week, overallWeighted)
		s.Gauge(psi28Desc, month, overallWeighted)
		s.Gauge(samplesDesc, float64(g.week.counts.Rows()), overallWeighted)
		s.Gauge(q99Desc, q99(w, days, func(n *drift.Null) drift.Noise { return n.Weighted }), overallWeighted)
		s.Gauge(daysDesc, float64(days), overallWeighted)
	}
	for i := range w.profile.Features {
		name := w.profile.Features[i].Name
		s.Gauge(psiDesc, g.week.features[i], name)
		s.Gauge(psi28Desc, g.month.features[i], name)
		s.Gauge(samplesDesc, float64(g.week.counts.RowsOf(i)), name)
		s.Gauge(q99Desc, q99(w, len(g.week.counts.DaysOf(i)), func(n *drift.Null) drift.Noise { return n.Features[i] }), name)
		s.Gauge(daysDesc, float64(len(g.week.counts.DaysOf(i))), name)
	}
}

// q99 returns the 99 % quantile without drift for the given number of days. It is NaN without days and while the quantile is being
// computed: no scrape waits for it.
func q99(w *Watch, days int, of func(*drift.Null) drift.Noise) float64 {
	if null := w.nulls.Made(days); null != nil {
		return of(null).Q99
	}
	return math.NaN()
}

// binNames returns the bin labels of each feature, which include the reference's digest.
func binNames(p *drift.Profile, reference string) [][]string {
	all := make([][]string, len(p.Features))
	for i := range p.Features {
		f := &p.Features[i]
		for b := range f.Shares {
			all[i] = append(all[i], fmt.Sprintf("%s@%.8s", f.BinName(b), reference))
		}
	}
	return all
}

// gauges returns the cached indices if they have the same rows or are recent, and otherwise recomputes them. Time moves the
// window too, but only every hour.
func (c *collector) gauges(w *Watch) gauges {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, rows := time.Now(), w.counted()
	same := c.latest.watch == w && hourOf(c.latest.time) == hourOf(now)
	if same && (c.latest.rows == rows || now.Sub(c.latest.time) < staleAfter) {
		return c.latest
	}
	ring := w.view(now)
	read := func(hours int) indices { return indicesOf(w.profile, windowOf(ring, hours, 0).counts) }
	c.latest = gauges{watch: w, rows: rows, time: now, week: read(weekHours), month: read(drift.RingHours)}
	return c.latest
}
