package drift

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Limits are the limits for judging drift.
type Limits struct {
	// Overall and Feature are the thresholds of the overall index and of a single feature's index.
	Overall, Feature float64
	// MinRows and MinDays are the fewest rows and days needed, of the present and of the reference.
	MinRows, MinDays int
}

// DefaultLimits returns the default policy's limits for promotion, with at least 500 rows of 5 days.
func DefaultLimits() Limits {
	promotion := gate.DefaultPolicy().Promotion
	return Limits{Overall: promotion.PSI, Feature: promotion.FeaturePSI, MinRows: 500, MinDays: 5}
}

// Snapshot is the drift at one point in time: the body of psi_snapshot.json.
type Snapshot struct {
	// Rows and Days describe the current data, ReferenceRows and ReferenceDays the profile.
	Rows          int `json:"rows"`
	Days          int `json:"days"`
	ReferenceRows int `json:"reference_rows"`
	ReferenceDays int `json:"reference_days"`
	// Overall is the index of the mean over the model's features.
	Overall Reading `json:"overall"`
	// Weighted is the mean by the features' weights (their importance for the model): drift in features that the model
	// hardly uses counts little. It is informational; no gate uses it. It is nil if the weights are unknown.
	Weighted *Reading         `json:"overall_weighted,omitempty"`
	Features []FeatureReading `json:"features"`
	// Unseen are the features, usually raw inputs, without current rows and therefore without an index.
	Unseen []string `json:"unseen,omitempty"`
	// Shifted are the features whose index is larger than without drift, at a false discovery rate of 5 %: see
	// [FeatureReading.Q].
	Shifted []string `json:"shifted"`
}

// falseDiscoveries is the false discovery rate of [Snapshot.Shifted].
const falseDiscoveries = 0.05

// Reading is one index with its interpretation.
type Reading struct {
	PSI float64 `json:"psi"`
	// Status is the band of PSI, which ignores noise.
	Status Status `json:"status"`
	// Samples is the number of current rows.
	Samples int `json:"samples"`
	// Noise is the index without drift; it is nil, and its keys absent, if the reference has only one day.
	*Noise
	// P is the probability of an index this large without drift, in (0,1]; nil with Noise.
	P *float64 `json:"p_value,omitempty"`
	// Threshold is the limit for PSI: see [Judge].
	Threshold float64      `json:"threshold"`
	Verdict   gate.Verdict `json:"verdict"`
	// Reason is the reason for the verdict; empty if it is PASS.
	Reason string `json:"reason"`
}

// FeatureReading is the index of one feature.
type FeatureReading struct {
	Feature string `json:"feature"`
	Role    Role   `json:"role"`
	// Weight is defined in [Feature].
	Weight float64 `json:"weight,omitempty"`
	Reading
	// Q is P corrected for the number of features tested (Benjamini and Hochberg); nil with P.
	Q *float64 `json:"q_value,omitempty"`
	// Days is how many days have the feature. Effective is how many independent rows Samples is worth, given how much
	// the reference days differ.
	Days      int          `json:"days"`
	Effective float64      `json:"effective_rows"`
	Bins      []BinReading `json:"bins"`
}

// BinReading is one bin of a feature.
type BinReading struct {
	// Bin is the name for machines, Range the description for people: see [Feature.BinName] and [Feature.BinRange].
	Bin   string `json:"bin"`
	Range string `json:"range"`
	// Reference and Current are shares of rows, in [0,1], before the floor; PSI is the bin's contribution to the index.
	Reference float64 `json:"reference"`
	Current   float64 `json:"current"`
	PSI       float64 `json:"psi"`
}

// ErrNoRows is returned if there are no current rows: then there is no index, rather than an index of 0.
var ErrNoRows = errors.New("no rows")

// Snapshot compares the counts with the profile and its nulls. It returns [ErrNoRows] or [ErrProfile].
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

// Judge judges an index on enough rows and days. PASS is below the threshold. FAIL is above the threshold and above the
// 99 % quantile without drift. INCONCLUSIVE is between them: both the index and its noise are large. ERROR means that
// one of them is not a number. The reason is empty with PASS.
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

// against adds the noise; its draws are ascending.
func (r *Reading) against(n Noise, draws []float64) {
	p := pValue(draws, r.PSI)
	r.Noise, r.P = &n, &p
}

// Judge requires enough rows, and enough of the given days, before it calls the function [Judge]. The reading's own
// verdict and reason are ignored, since evidence is judged again with it.
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
// holds for positively dependent features, such as those of one market (Benjamini and Yekutieli, 2001).
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
