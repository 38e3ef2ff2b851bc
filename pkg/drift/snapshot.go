package drift

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/text"
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
	// Overall is of the mean over the features of the model.
	Overall Reading `json:"overall"`
	// Weighted is of the mean by the weights of the features, which are what the model makes of each: drift of what the
	// model hardly uses counts little. It is read beside Overall, and no gate asks for it. nil where the weights are not
	// known.
	Weighted *Reading         `json:"overall_weighted,omitempty"`
	Features []FeatureReading `json:"features"`
	// Unseen are the features, raw inputs most often, of which the present has no row: there is no index of them.
	Unseen []string `json:"unseen,omitempty"`
	// Shifted are the features whose index is larger than without drift, at a false discovery rate of 5 %: see
	// [FeatureReading.Q].
	Shifted []string `json:"shifted"`
}

// falseDiscoveries is the rate of [Snapshot.Shifted].
const falseDiscoveries = 0.05

// Reading is one index with what to make of it.
type Reading struct {
	PSI float64 `json:"psi"`
	// Status is the literal reading, whatever the noise.
	Status Status `json:"status"`
	// Samples is the number of rows of the present.
	Samples int `json:"samples"`
	// Noise is the index without drift; nil, and its keys absent, when the reference has one day only.
	*Noise
	// P is how often the index is as large or larger without drift, in (0,1]; nil with Noise.
	P *float64 `json:"p_value,omitempty"`
	// Threshold is what PSI is judged against: see [Judge].
	Threshold float64      `json:"threshold"`
	Verdict   gate.Verdict `json:"verdict"`
	// Reason says why the verdict is not PASS; empty with PASS.
	Reason string `json:"reason"`
}

// FeatureReading is the index of one feature.
type FeatureReading struct {
	Feature string `json:"feature"`
	Role    Role   `json:"role"`
	// Weight is that of [Feature].
	Weight float64 `json:"weight,omitempty"`
	Reading
	// Q is P corrected for how many features were looked at (Benjamini and Hochberg); nil with P.
	Q *float64 `json:"q_value,omitempty"`
	// Days is how many days have the feature, and Effective how many independent rows Samples are worth, given how much
	// the days of the reference differ.
	Days      int          `json:"days"`
	Effective float64      `json:"effective_rows"`
	Bins      []BinReading `json:"bins"`
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

// Snapshot reads the counts against the profile and its nulls. It fails with [ErrNoRows] or [ErrProfile].
func (p *Profile) Snapshot(c *Counts, nulls *Nulls, l Limits) (*Snapshot, error) {
	switch {
	case c.profile != p, nulls.profile != p:
		return nil, ErrProfile
	case c.Rows() == 0:
		return nil, ErrNoRows
	}
	s := &Snapshot{
		Rows: int(c.Rows()), Days: len(c.scored.days), ReferenceRows: p.Rows, ReferenceDays: len(p.Days), Shifted: []string{},
	}
	overall, features := p.PSI(c)
	of, inputsOf, err := nulls.of(c)
	if err != nil {
		return nil, err
	}
	s.Overall = newReading(overall, l.Overall, s.Rows)
	if of != nil {
		s.Overall.against(of.Overall, of.overall)
	}
	s.Overall.Verdict, s.Overall.Reason = s.Judge(s.Overall, s.Days, l)
	if v, ok := p.Weighted(features); ok {
		r := newReading(v, l.Overall, s.Rows)
		if of != nil {
			r.against(of.Weighted, of.weighted)
		}
		r.Verdict, r.Reason = s.Judge(r, s.Days, l)
		s.Weighted = &r
	}
	for i := range p.Features {
		f, null, rows, days := &p.Features[i], of, c.RowsOf(i), len(c.of(i).days)
		if i >= p.scored {
			null = inputsOf
		}
		if rows == 0 {
			s.Unseen = append(s.Unseen, f.Name)
			continue
		}
		r := FeatureReading{
			Feature: f.Name, Role: f.Role, Weight: f.Weight, Days: days, Reading: newReading(features[i], l.Feature, int(rows)),
		}
		if null != nil {
			r.against(null.Features[i], null.features[i])
			r.Effective = p.effective(i, days, rows)
		}
		r.Verdict, r.Reason = s.Judge(r.Reading, days, l)
		current := c.Shares(i)
		for bin, share := range f.Shares {
			r.Bins = append(r.Bins, BinReading{f.BinName(bin), f.BinRange(bin), share, current[bin], term(share, current[bin])})
		}
		s.Features = append(s.Features, r)
	}
	s.discover()
	return s, nil
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

func newReading(psi, threshold float64, rows int) Reading {
	return Reading{PSI: psi, Status: StatusOf(psi), Samples: rows, Threshold: threshold}
}

// against adds the noise, of which the draws are ascending.
func (r *Reading) against(n Noise, draws []float64) {
	p := pValue(draws, r.PSI)
	r.Noise, r.P = &n, &p
}

// Judge asks for enough rows and days, of so many that the reading is of, before it asks the function of that name. The
// reading's own verdict and reason are not looked at: evidence is judged anew with it.
func (s *Snapshot) Judge(r Reading, days int, l Limits) (verdict gate.Verdict, reason string) {
	for _, v := range []struct {
		what, of   string
		have, want int
	}{
		{"row", "", r.Samples, l.MinRows},
		{"day", "", days, l.MinDays},
		{"row", " of reference", s.ReferenceRows, l.MinRows},
		{"day", " of reference", s.ReferenceDays, l.MinDays},
	} {
		if v.have < v.want {
			return gate.Inconclusive, fmt.Sprintf("%s%s, %d needed", text.Count(v.have, v.what), v.of, v.want)
		}
	}
	if r.Noise == nil {
		return gate.Inconclusive, "the index without drift is not known"
	}
	return Judge(r.PSI, r.Threshold, r.Q99)
}

// discover sets Q and Shifted.
//
// Y. Benjamini and Y. Hochberg (1995), "Controlling the false discovery rate", J. Royal Statistical Society B 57. It
// holds for features that depend on each other positively, as those of one market do (Benjamini and Yekutieli, 2001).
func (s *Snapshot) discover() {
	var p []float64
	var at []int
	for i, f := range s.Features {
		if f.P != nil {
			p, at = append(p, *f.P), append(at, i)
		}
	}
	for j, q := range stats.BenjaminiHochberg(p) {
		f := &s.Features[at[j]]
		f.Q = &q
		if q <= falseDiscoveries {
			s.Shifted = append(s.Shifted, f.Feature)
		}
	}
}
