package drift

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Limits are what drift is judged by.
type Limits struct {
	// Overall and Feature are the thresholds of the overall index and of that of a single feature.
	Overall, Feature float64
	// MinRows and MinDays are how many rows and days it takes, of the present and of the reference.
	MinRows, MinDays int
}

// DefaultLimits are those of promotion: 0.2 overall, 0.3 for a feature, on 500 rows of 5 days.
func DefaultLimits() Limits { return Limits{Overall: 0.2, Feature: 0.3, MinRows: 500, MinDays: 5} }

// Snapshot is drift at one time: the body of psi_snapshot.json.
type Snapshot struct {
	// Rows and Days are those of the present, ReferenceRows and ReferenceDays those of the profile.
	Rows          int `json:"rows"`
	Days          int `json:"days"`
	ReferenceRows int `json:"reference_rows"`
	ReferenceDays int `json:"reference_days"`
	// Overall is of the mean over the features.
	Overall  Reading          `json:"overall"`
	Features []FeatureReading `json:"features"`
}

// Reading is one index with what to make of it.
type Reading struct {
	PSI float64 `json:"psi"`
	// Status is the literal reading, whatever the noise.
	Status Status `json:"status"`
	// Samples is the number of rows of the present.
	Samples int `json:"samples"`
	// Noise is the index without drift; nil, and its keys absent, when the reference has one day only.
	*Noise
	// Threshold is what PSI is judged against: see [Judge].
	Threshold float64      `json:"threshold"`
	Verdict   gate.Verdict `json:"verdict"`
	// Reason says why the verdict is not PASS; empty with PASS.
	Reason string `json:"reason"`
}

// FeatureReading is the index of one feature.
type FeatureReading struct {
	Feature string `json:"feature"`
	Reading
	Bins []BinReading `json:"bins"`
}

// BinReading is one bin of a feature.
type BinReading struct {
	// Bin is the name for machines, Range says what is in it: see [Feature.BinName] and [Feature.BinRange].
	Bin   string `json:"bin"`
	Range string `json:"range"`
	// Reference and Current are shares of rows, in [0,1], before the floor; PSI is what the bin adds to the index.
	Reference float64 `json:"reference"`
	Current   float64 `json:"current"`
	PSI       float64 `json:"psi"`
}

// ErrNoRows is the error of a present without rows: there is no index, not an index of 0.
var ErrNoRows = errors.New("no rows")

// Snapshot reads the counts against the profile and the null, which is nil or for as many days as the counts have. It
// fails with [ErrNoRows] or [ErrProfile], or when the null is of another profile or number of days.
func (p *Profile) Snapshot(c *Counts, null *Null, l Limits) (*Snapshot, error) {
	switch {
	case c.profile != p:
		return nil, ErrProfile
	case c.rows == 0:
		return nil, ErrNoRows
	case null != nil && (null.Days != len(c.days) || len(null.Features) != len(p.Features)):
		return nil, fmt.Errorf("null is of %d features and %d days: want %d and %d", len(null.Features), null.Days, len(p.Features), len(c.days))
	}
	s := &Snapshot{Rows: int(c.rows), Days: len(c.days), ReferenceRows: p.Rows, ReferenceDays: len(p.Days)}
	overall, features := p.PSI(c)
	read := func(psi, threshold float64, noise func(*Null) Noise) Reading {
		r := Reading{PSI: psi, Status: StatusOf(psi), Samples: s.Rows, Threshold: threshold}
		if null != nil {
			n := noise(null)
			r.Noise = &n
		}
		r.Verdict, r.Reason = s.judge(r, l)
		return r
	}
	s.Overall = read(overall, l.Overall, func(n *Null) Noise { return n.Overall })
	for i := range p.Features {
		f := &p.Features[i]
		fr := FeatureReading{Feature: f.Name, Reading: read(features[i], l.Feature, func(n *Null) Noise { return n.Features[i] })}
		current := c.Shares(i)
		for bin, share := range f.Shares {
			fr.Bins = append(fr.Bins, BinReading{f.BinName(bin), f.BinRange(bin), share, current[bin], term(share, current[bin])})
		}
		s.Features = append(s.Features, fr)
	}
	return s, nil
}

// judge asks for enough rows and days before it asks [Judge].
func (s *Snapshot) judge(r Reading, l Limits) (gate.Verdict, string) {
	for _, v := range []struct {
		what       string
		have, want int
	}{
		{"rows", s.Rows, l.MinRows},
		{"days", s.Days, l.MinDays},
		{"rows of reference", s.ReferenceRows, l.MinRows},
		{"days of reference", s.ReferenceDays, l.MinDays},
	} {
		if v.have < v.want {
			return gate.Inconclusive, fmt.Sprintf("%d %s, %d needed", v.have, v.what, v.want)
		}
	}
	if r.Noise == nil {
		return gate.Inconclusive, "the index without drift is not known"
	}
	return Judge(r.PSI, r.Threshold, r.Q99)
}

// Judge says what an index on enough rows and days means: PASS below the threshold; FAIL above it and above what the
// index reaches once in a hundred times without drift; INCONCLUSIVE between, where the index is large and so is the
// noise; ERROR when one of them is not a number. The reason is empty with PASS.
func Judge(psi, threshold, q99 float64) (verdict gate.Verdict, reason string) {
	for _, v := range []float64{psi, threshold, q99} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return gate.Error, fmt.Sprintf("PSI %v, threshold %v, null 99 %% %v: want numbers", psi, threshold, q99)
		}
	}
	switch {
	case psi < threshold:
		return gate.Pass, ""
	case psi > max(threshold, q99):
		return gate.Fail, fmt.Sprintf("PSI %.4g is above the threshold %.4g and above %.4g, the 99 %% quantile without drift", psi, threshold, q99)
	case psi > threshold:
		return gate.Inconclusive, fmt.Sprintf("PSI %.4g is above the threshold %.4g, but not above %.4g, the 99 %% quantile without drift", psi, threshold, q99)
	default:
		return gate.Inconclusive, fmt.Sprintf("PSI is the threshold, %.4g", threshold)
	}
}
