package quality

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// The days of any log.
var (
	beginning = time.Unix(0, 0).UTC()
	endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// Log is a feature log and a summary of its rows.
type Log struct {
	featurelog.Log

	// Symbol is the instrument that is judged.
	Symbol string
	// Model and Baseline are the most frequent digests.
	Model, Baseline string
	// Rows is the number of sampled rows of the symbol, Sources counts them.
	Rows    int
	Sources featurelog.Sources

	baselineVersion string
}

// OpenLog finds the models, baselines and symbols in the rows of a feature log. symbol may be empty if there is only one.
func OpenLog(of featurelog.Log, symbol string) (*Log, error) {
	l := &Log{Log: of, Symbol: symbol, Sources: featurelog.Sources{}}
	symbols, models, bases, versions := map[string]int{}, map[string]int{}, map[string]int{}, map[string]string{}
	for row, err := range of.Read(beginning, endOfTime) {
		if err != nil {
			return nil, fmt.Errorf("feature log: %w", err)
		}
		symbols[row.Symbol]++
		if symbol != "" && row.Symbol != symbol || row.Outcome == shadow.NotSampled.String() {
			continue
		}
		l.Rows++
		l.Sources.Add(&row)
		if row.ModelDigest != "" {
			models[row.ModelDigest]++
		}
		bases[row.BaselineDigest]++
		versions[row.BaselineDigest] = row.BaselineVersion
	}
	switch {
	case len(symbols) == 0:
		return nil, fmt.Errorf("%s has no rows", of)
	case symbol == "" && len(symbols) > 1:
		return nil, fmt.Errorf("%s has rows of %s: choose one with --symbol", of, strings.Join(slices.Sorted(maps.Keys(symbols)), ", "))
	case symbol != "" && symbols[symbol] == 0:
		return nil, fmt.Errorf("%s has no symbol %q: it has %s; choose one with --symbol", of, symbol, strings.Join(slices.Sorted(maps.Keys(symbols)), ", "))
	case len(models) == 0:
		return nil, fmt.Errorf("%s has no row with a model's score", of)
	}
	if symbol == "" {
		l.Symbol = slices.Collect(maps.Keys(symbols))[0]
	}
	l.Model, l.Baseline = most(models), most(bases)
	l.baselineVersion = versions[l.Baseline]
	return l, nil
}

// Inputs returns the parts of the log with their digests.
func (l *Log) Inputs() ([]evidence.Input, error) { return l.Log.Inputs(beginning, endOfTime) }

// most returns the key with the highest count; the first one if several tie.
func most(counts map[string]int) string {
	return slices.MaxFunc(slices.Sorted(maps.Keys(counts)), func(a, b string) int { return cmp.Or(cmp.Compare(counts[a], counts[b]), strings.Compare(b, a)) })
}

// FromLog judges the scores of a feature log. The artifact is the log's most frequent model: it defines the label, which is
// computed from the market data. Without a cap and a margin it uses the plan of the model's own evaluation, if that has the
// log's baseline. Otherwise there is only a suggestion, because a plan chosen after the scores proves nothing.
func FromLog(l *Log, data *experiment.Data, a *model.Artifact, o Options) (*Report, error) {
	rule, err := label.Rule{Horizon: int(a.Spec.Label.HorizonMinutes)}.Complete()
	if err != nil || !(a.Spec.Label.Threshold > 0) || a.Spec.Label.HorizonMinutes != float64(rule.Horizon) {
		return nil, fmt.Errorf("the label of %s is not computed from quotes, so market data cannot provide it", a.Manifest.Version)
	}
	horizon := time.Duration(rule.Horizon) * time.Minute
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", data.Name, err)
	}
	grid := newGrid(frame, rule, a.Spec.Label.Threshold)
	r := &Report{Scores: Logged, Model: a.Manifest.Version, Baseline: l.baselineVersion, Skipped: map[string]int{}}
	plan, err := l.plan(a, horizon, o)
	if err != nil {
		return nil, err
	}
	of := outcome.Plan{LabelSource: outcome.Quotes, HorizonMS: horizon.Milliseconds()}
	if plan != nil {
		of = *plan
	}
	j := outcome.NewJoin(outcome.Key{Executor: name(l.String()), Model: l.Model, Baseline: l.Baseline}, of)
	feed := outcome.NewFeed(j, l.Symbol, grid.ends, grid.answers)
	var all sample
	var distances []float64
	err = l.days(r.Skipped, func(row *outcome.Row) {
		if feed.Add(row) != outcome.Pending {
			return
		}
		y := grid.at(row.Time)
		if y == outcome.Unknown || row.Missing != outcome.None {
			return
		}
		distance, policy := math.Abs(row.Shadow-row.Baseline), row.Shadow
		distances = append(distances, distance)
		if plan != nil && distance > plan.DisagreementCap {
			policy = row.Baseline
		}
		all.add(row.Baseline, policy, y == outcome.Positive, int((row.Time-1)/(24*60*60*1000)))
	})
	if err != nil {
		return nil, err
	}
	feed.Finish()
	r.Records = j.Closed()
	r.Precision = all.precision()
	if len(distances) > 0 {
		slices.Sort(distances)
		if s := outcome.Suggest(distances, eval.Brier(all.baseline, all.labels), outcome.Quotes, horizon); s.Validate() == nil {
			r.Suggested = &s
		}
	}
	err = r.Judge(plan)
	return r, err
}

// plan returns the plan for the log; nil if there is none.
func (l *Log) plan(a *model.Artifact, horizon time.Duration, o Options) (*outcome.Plan, error) {
	p := outcome.Plan{Alpha: outcome.DefaultAlpha, LabelSource: outcome.Quotes, HorizonMS: horizon.Milliseconds()}
	if own, err := experiment.Own(a); err == nil && own.QualityPlan != nil && a.Baseline != nil && a.Baseline.Digest() == l.Baseline {
		p = own.QualityPlan.Plan
	} else if o.Cap == 0 || o.Margin == 0 {
		return nil, nil //nolint:nilnil // no plan is a result
	}
	p = o.over(p)
	return &p, p.Validate()
}

// days calls visit for the sampled rows of the log's model and baseline, in time order within each day of arrival. It counts
// the skipped rows.
func (l *Log) days(skipped map[string]int, visit func(*outcome.Row)) error {
	type logged struct {
		outcome.Row

		executor, model string
	}
	var day []logged
	date, last := "", map[string]string{} // by executor
	flush := func() {
		slices.SortStableFunc(day, func(a, b logged) int {
			return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.ID, b.ID))
		})
		for i := range day {
			// A row without an answer belongs to the model that answered its executor before it.
			executor := day[i].executor
			if day[i].model != "" {
				last[executor] = day[i].model
			}
			if of := last[executor]; of != "" && of != l.Model {
				skipped["of another model"]++
				continue
			}
			visit(&day[i].Row)
		}
		day = day[:0]
	}
	err := l.ReadByExecutor(beginning, endOfTime, func(executor string, row featurelog.Row) bool {
		switch {
		case row.Symbol != l.Symbol:
			skipped["of another symbol"]++
			return true
		case row.Outcome == shadow.NotSampled.String():
			skipped["not sampled"]++
			return true
		case row.BaselineDigest != l.Baseline:
			skipped["of another baseline"]++
			return true
		}
		if of := row.ArrivalTime.UTC().Format(time.DateOnly); of != date {
			flush()
			date = of
		}
		one := logged{Row: outcome.Row{
			ID: row.RequestID, Symbol: row.Symbol, Arrival: row.ArrivalTime.UnixMilli(), Source: outcome.SourceOf(row.Source),
			Baseline: row.BaselineScore, Shadow: row.ShadowScore.Value, Missing: outcome.FallbackOf(row.Outcome),
		}, executor: executor, model: row.ModelDigest}
		if executor != "" { // two executors may use the same id for different requests
			one.ID = executor + "/" + one.ID
		}
		if at, ok := row.Time(); ok {
			one.Time = at.UnixMilli()
		}
		if one.Missing == outcome.None && !row.ShadowScore.Present {
			one.Missing = outcome.Internal
		}
		day = append(day, one)
		return true
	})
	if err != nil {
		return fmt.Errorf("feature log: %w", err)
	}
	flush()
	return nil
}

// Source returns the source for evidence from the log and the market data.
func (l *Log) Source(data *experiment.Data) evidence.Source {
	return evidence.Sources{data.Source(): 1}.Least(l.Sources.Evidence())
}

// grid holds the minutes of a market with their labels.
type grid struct {
	ends    []int64
	answers []outcome.Answer
}

func newGrid(f *feature.Frame, rule label.Rule, threshold float64) *grid {
	g := &grid{make([]int64, f.Len()), make([]outcome.Answer, f.Len())}
	for i, z := range rule.Z(f) {
		g.ends[i] = f.End(i)
		switch {
		case z > threshold:
			g.answers[i] = outcome.Positive
		case z <= threshold: // not NaN
			g.answers[i] = outcome.Negative
		}
	}
	return g
}

// at returns the label of the minute at or before t.
func (g *grid) at(t int64) outcome.Answer {
	if i, ok := slices.BinarySearch(g.ends, t-t%(60*1000)); ok {
		return g.answers[i]
	}
	return outcome.Unknown
}
