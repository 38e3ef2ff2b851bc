package driftcompare

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// The evidence schemas of psi_compare.json. Files of v1 use the bands of [drift.StatusOfV1].
const (
	Schema   = "greenlight/psi_compare/v2"
	SchemaV1 = "greenlight/psi_compare/v1"
)

// File is the name of the report in the evidence.
const File = "psi_compare.json"

// rollingDays is the length of a window of the history, in days.
const rollingDays = 7

// Report is the body of psi_compare.json. Its history has one window of 7 days for each day of the current data on which a
// window ends.
type Report struct {
	FeatureSchema string `json:"feature_schema"`
	Reference     Side   `json:"reference"`
	Current       Side   `json:"current"`
	// Classifier tests the features jointly, whereas the PSI tests them one by one. It is null if no classifier was used or there
	// are no rows.
	Classifier *twosample.Result `json:"classifier"`
	driftview.Report
}

// Options of [Compare].
type Options struct {
	Limits drift.Limits
	// Classifier is not used if its Permutations is 0.
	Classifier twosample.Options
}

// DefaultOptions returns the limits of ml-engine, with the classifier.
func DefaultOptions() Options {
	return Options{Limits: drift.DefaultLimits(), Classifier: twosample.DefaultOptions()}
}

// Side describes one of the two sets.
type Side struct {
	Name    string   `json:"name"`
	Symbols []string `json:"symbols"`
	Rows    int      `json:"rows"`
	// LeftOut is the number of rows or minutes that were skipped because no model could score them.
	LeftOut int `json:"left_out"`
	// Untimely is the number of rows of a log that were skipped because their time is impossible.
	Untimely int `json:"untimely,omitempty"`
	// Sources counts the rows of the whole log by source: "live", "replay", "simulated", or "unknown" if the row names none.
	// It is absent for market data.
	Sources featurelog.Sources `json:"sources,omitempty"`
	Days    int                `json:"days"`
	// First and Last are UTC days; empty without rows.
	First string `json:"first"`
	Last  string `json:"last"`
	// Quality is the quality of the market data; null for a feature log. The PSI of bad data means nothing.
	Quality *experiment.DataQuality `json:"data_quality"`
}

func side(s *Set) Side {
	days := s.Days()
	d := Side{
		Name: s.Name, Symbols: s.Symbols, Rows: s.Rows(), LeftOut: s.Left, Untimely: s.Untimely, Sources: s.Sources, Days: len(days),
		Quality: s.Quality,
	}
	if len(days) > 0 {
		d.First, d.Last = dayTime(days[0]).Format(time.DateOnly), dayTime(days[len(days)-1]).Format(time.DateOnly)
	}
	return d
}

// Compare measures the drift from the reference to the current data. Both must have the same schema. Too little data is
// INCONCLUSIVE and not an error.
func Compare(reference, current *Set, o Options) (*Report, error) {
	limits := o.Limits
	if reference.Schema.Name != current.Schema.Name {
		return nil, fmt.Errorf("the reference has schema %s, but the current data has %s: compare data with the same schema", reference.Schema.Name, current.Schema.Name)
	}
	r := &Report{FeatureSchema: reference.Schema.Name, Reference: side(reference), Current: side(current)}
	if reference.Rows() == 0 {
		r.Report = *driftview.Empty(nil, window(current), tooFew(0, limits, "of reference"))
		return r, nil
	}
	profile, err := drift.NewProfile(reference.columns, reference.days)
	if err != nil {
		return nil, fmt.Errorf("profile of %s: %w", reference.Name, err)
	}
	if current.Rows() == 0 {
		r.Report = *driftview.Empty(profile, window(current), tooFew(0, limits, "of the current data"))
		return r, nil
	}
	daily, err := count(profile, current)
	if err != nil {
		return nil, err
	}
	nulls := drift.NewNulls(profile, driftview.Replicates, driftview.Seed)
	all := drift.NewCounts(profile)
	days := slices.Sorted(maps.Keys(daily))
	for _, day := range days {
		if err := all.Merge(daily[day]); err != nil {
			return nil, err
		}
	}
	snapshot, err := profile.Snapshot(all, nulls, limits)
	if err != nil {
		return nil, err
	}
	r.Report = *driftview.New(snapshot, window(current), limits)
	for last := days[0] + rollingDays - 1; last <= days[len(days)-1]; last++ {
		point, err := rolling(profile, daily, nulls, last, limits)
		if err != nil {
			return nil, err
		}
		if point != nil {
			r.History = append(r.History, *point)
		}
	}
	if o.Classifier.Permutations > 0 {
		r.Classifier, err = Classify(reference, current, o.Classifier)
	}
	return r, err
}

// Write writes the report and its figures, and returns the number of figures.
func (r *Report) Write(store *evidence.Store, header evidence.Header) (int, error) {
	title := r.Current.Name
	if r.Reference.Name != title {
		title += " against " + r.Reference.Name
	}
	return r.Report.Write(store, File, "psi_compare/", r.Title(title, header.Source), header, r)
}

// DataVerdict returns the worst verdict on the quality of the two sets, with its reasons. It is PASS if neither quality is
// known.
func (r *Report) DataVerdict() (v gate.Verdict, reasons []string) {
	v = gate.Pass
	for _, side := range []struct {
		name string
		*experiment.DataQuality
	}{{"reference", r.Reference.Quality}, {"current", r.Current.Quality}} {
		if side.DataQuality == nil {
			continue
		}
		v = gate.Worst(v, side.Verdict)
		for _, check := range side.Checks {
			if !check.Verdict.OK() {
				reasons = append(reasons, side.name+": "+check.Name+": "+check.Reason)
			}
		}
	}
	return v, reasons
}

// Rolling returns the history in one line. It is empty if the history has fewer than two windows.
func (r *Report) Rolling() string {
	if len(r.History) < 2 {
		return ""
	}
	values := make([]float64, len(r.History))
	var below, fails int
	highest := r.History[0]
	for i, p := range r.History {
		values[i] = p.Overall
		if p.Overall < r.Overall.Threshold {
			below++
		}
		if p.Verdict == gate.Fail {
			fails++
		}
		if p.Overall > highest.Overall {
			highest = p
		}
	}
	slices.Sort(values)
	return fmt.Sprintf("%d windows of %d days: overall PSI median %.3f, highest %.3f (to %s), %d below %.1f, %d FAIL", len(values), rollingDays,
		stats.Quantile(values, 0.5), highest.Overall, highest.End.Add(-1).Format(time.DateOnly), below, r.Overall.Threshold, fails)
}

func tooFew(rows int, l drift.Limits, of string) string {
	return fmt.Sprintf("%d rows %s, %d needed: the features take a day to warm up", rows, of, l.MinRows)
}

// window returns the window that covers the days of a set.
func window(s *Set) driftview.Window {
	days := s.Days()
	if len(days) == 0 {
		return driftview.Window{}
	}
	first, end := days[0], days[len(days)-1]+1
	return driftview.Window{Hours: 24 * (end - first), Start: dayTime(first), End: dayTime(end)}
}

// count counts the rows of each day in the bins of the profile. It skips raw inputs that the set does not have.
func count(p *drift.Profile, s *Set) (map[int]*drift.Counts, error) {
	var columns [][]float64
	for i, f := range p.Features {
		at := slices.IndexFunc(s.columns, func(c drift.Column) bool { return c.Name == f.Name })
		if at < 0 && i >= p.Scored() {
			break // a set has either all raw inputs or none
		}
		if at < 0 {
			return nil, fmt.Errorf("%s has no %s, but the reference has", s.Name, f.Name)
		}
		columns = append(columns, s.columns[at].Values)
	}
	daily := map[int]*drift.Counts{}
	x := make([]float64, len(columns))
	for i, day := range s.days {
		for j, values := range columns {
			x[j] = values[i]
		}
		if daily[day] == nil {
			daily[day] = drift.NewCounts(p)
		}
		daily[day].Observe(day, x)
	}
	return daily, nil
}

// rolling measures the drift of the window that ends with the day last. It returns nil if the window has no rows.
func rolling(p *drift.Profile, daily map[int]*drift.Counts, nulls *drift.Nulls, last int, limits drift.Limits) (*driftview.Point, error) {
	c := drift.NewCounts(p)
	for day := last - rollingDays + 1; day <= last; day++ {
		if daily[day] == nil {
			continue
		}
		if err := c.Merge(daily[day]); err != nil {
			return nil, err
		}
	}
	if c.Rows() == 0 {
		return nil, nil //nolint:nilnil // a week without rows has no point and is not an error
	}
	s, err := p.Snapshot(c, nulls, limits)
	if err != nil {
		return nil, err
	}
	point := driftview.PointOf(s, dayTime(last+1))
	return &point, nil
}
