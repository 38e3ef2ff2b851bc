package promote

import (
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
)

const (
	psiName = "psi_snapshot.json"
	// psiAge bounds the age of drift: the market may have changed within a day.
	psiAge = 24 * time.Hour
	// ahead bounds how far another machine's clock may be ahead. A snapshot's window ends with the current hour, so it may be
	// an hour further ahead.
	ahead = 5 * time.Minute
)

// Watched is an index of a raw input or of the score. It is shown but does not block.
type Watched struct {
	Feature string     `json:"feature"`
	Role    drift.Role `json:"role"`
	PSI     float64    `json:"psi"`
	Q99     *float64   `json:"null_q99"`
}

// psiSnapshot is psi_snapshot.json.
type psiSnapshot struct {
	evidence.Header
	driftfleet.Report
}

// psi judges the drift of the model's features from the figures of the snapshot.
func (j *judgment) psi() (overall, feature Row) {
	limits := drift.DefaultLimits()
	limits.Overall, limits.Feature = j.policy.Promotion.PSI, j.policy.Promotion.FeaturePSI
	rules := [2]gate.Rule{
		{Name: PSIOverall, Op: gate.Below, Threshold: limits.Overall, MinSamples: uint64(limits.MinRows)},
		{Name: PSIFeature, Op: gate.Below, Threshold: limits.Feature, MinSamples: uint64(limits.MinRows)},
	}
	refuse := func(f *file, err error) (Row, Row) {
		return missing(rules[0], err.Error(), f), missing(rules[1], err.Error(), f)
	}
	f, err := j.read(psiName, "greenlight drift snapshot")
	if err != nil {
		return refuse(f, err)
	}
	var s psiSnapshot
	if err := f.as(&s, driftfleet.Schema, driftfleet.SchemaV1); err != nil {
		return refuse(f, err)
	}
	if s.Report.Overall == nil {
		return refuse(f, fmt.Errorf("no index: %s", s.Reason))
	}
	if j.artifact == nil || j.artifact.Reference == nil {
		return refuse(f, errors.New("the model has no drift profile that verifies"))
	}
	worst, err := follow(j.artifact.Reference, &s.Report.Report, limits)
	if err != nil {
		return refuse(f, fmt.Errorf("%s: %w", f.Path, err))
	}
	overall = reading(rules[0], *s.Report.Overall, s.Days, j.artifact.Reference, limits, f)
	feature = reading(rules[1], worst.Reading, worst.Days, j.artifact.Reference, limits, f)
	overall.Note = fmt.Sprintf("window of %d h to %s", s.Window.Hours, minute(s.Window.End))
	feature.Note = "worst is " + worst.Feature
	for _, r := range []*Row{&overall, &feature} {
		r.about(f, j.digest)
		r.live(f)
		j.fresh(r, f, s.Window.End)
		if want := j.artifact.Manifest.Files[model.ReferenceFile]; s.ReferenceDigest != want {
			r.worsen(gate.Fail, "%s is against another reference, %s, not %s", f.Path, short(s.ReferenceDigest), short(want))
		}
	}
	j.check.PSI = s.Report.Overall.PSI
	for _, r := range s.Features {
		if r.Role != drift.ModelFeature {
			w := Watched{Feature: r.Feature, Role: r.Role, PSI: r.PSI}
			if r.Noise != nil {
				w.Q99 = &r.Q99
			}
			j.check.Watched = append(j.check.Watched, w)
		}
	}
	return overall, feature
}

// fresh requires that the snapshot, and the rows that it counts, are from the last day. A new snapshot of an engine that has
// stopped scoring is stale.
func (j *judgment) fresh(r *Row, f *file, end time.Time) {
	switch made := f.header.CreatedTime; {
	case made.After(j.now.Add(ahead)) || end.After(j.now.Add(time.Hour+ahead)):
		r.worsen(gate.Inconclusive, "%s is from the future, %s: a clock is wrong", f.Path, minute(made))
	case j.now.Sub(made) > psiAge:
		r.worsen(gate.Inconclusive, "stale: %s is from %s, more than %s ago", f.Path, minute(made), gate.Duration(psiAge))
	case j.now.Sub(end) > psiAge:
		r.worsen(gate.Inconclusive, "stale: the rows of %s ended at %s, more than %s ago", f.Path, minute(end), gate.Duration(psiAge))
	}
}

// reading judges one index as [drift.Judge] does, if there are enough rows and days.
func reading(rule gate.Rule, r drift.Reading, days int, p *drift.Profile, l drift.Limits, f *file) Row {
	row := newRow(gate.Check(rule, gate.Measured(r.PSI, uint64(max(r.Samples, 0)))), f)
	if row.Verdict == gate.Error || row.Verdict == gate.Inconclusive {
		return row // no number, or too few rows
	}
	switch {
	case days < l.MinDays:
		row.Verdict, row.Reason = gate.Inconclusive, fmt.Sprintf("%d days, %d needed", days, l.MinDays)
	case p.Rows < l.MinRows || len(p.Days) < l.MinDays:
		row.Verdict, row.Reason = gate.Inconclusive, fmt.Sprintf("the reference has %d rows of %d days, %d of %d needed", p.Rows, len(p.Days), l.MinRows, l.MinDays)
	case r.Noise == nil:
		row.Verdict, row.Reason = gate.Inconclusive, "the index without drift is not known"
	default:
		row.Verdict, row.Reason = drift.Judge(r.PSI, rule.Threshold, r.Q99)
	}
	return row
}

// follow recomputes the indices of the snapshot from its bins and the model's reference. It returns the feature with the worst
// verdict, and among ties the one with the largest index. It returns an error if a feature is missing, or if an index does not
// follow from its bins.
func follow(p *drift.Profile, s *driftview.Report, l drift.Limits) (*drift.FeatureReading, error) {
	read := make(map[string]*drift.FeatureReading, len(s.Features))
	for i := range s.Features {
		read[s.Features[i].Feature] = &s.Features[i]
	}
	var worst *drift.FeatureReading
	var worstVerdict gate.Verdict
	sum, n := 0.0, 0
	for _, f := range p.Features {
		if f.Role != drift.ModelFeature {
			continue
		}
		r := read[f.Name]
		if r == nil {
			return nil, fmt.Errorf("no index for %s", f.Name)
		}
		if err := recount(f, r, s.Rows); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		sum, n = sum+r.PSI, n+1
		v := reading(gate.Rule{Op: gate.Below, Threshold: l.Feature, MinSamples: uint64(l.MinRows)}, r.Reading, r.Days, p, l, nil).Verdict
		if worst == nil || gate.Worst(v, worstVerdict) == v && (v != worstVerdict || r.PSI > worst.PSI) {
			worst, worstVerdict = r, v
		}
	}
	if mean := sum / float64(n); !driftview.Agree(mean, s.Overall.PSI) {
		return nil, fmt.Errorf("the overall index is %v, but the mean over its features is %v", s.Overall.PSI, mean)
	}
	return worst, nil
}

// recount recomputes the index of one feature from its bins.
func recount(f drift.Feature, r *drift.FeatureReading, rows int) error {
	if len(r.Bins) != len(f.Shares) || r.Samples != rows {
		return fmt.Errorf("%d bins of %d rows, want %d of %d", len(r.Bins), r.Samples, len(f.Shares), rows)
	}
	current, sum := make([]float64, len(r.Bins)), 0.0
	for i, b := range r.Bins {
		if !driftview.Agree(b.Reference, f.Shares[i]) {
			return fmt.Errorf("bin %s has the share %v of the reference, but the model's has %v", b.Bin, b.Reference, f.Shares[i])
		}
		current[i] = b.Current
		sum += b.Current
	}
	if !driftview.Agree(sum, 1) {
		return fmt.Errorf("the shares of its bins add up to %v", sum)
	}
	if psi := drift.PSI(f.Shares, current); !driftview.Agree(psi, r.PSI) {
		return fmt.Errorf("the index is %v, but %v by its bins", r.PSI, psi)
	}
	return nil
}

func minute(t time.Time) string { return t.UTC().Format(minuteForm) }
