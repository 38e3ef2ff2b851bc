package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Profile is the frozen reference: how the features of the training rows were distributed. It must not be changed, and
// is safe for concurrent use. Its JSON is byte-identical for the same rows.
type Profile struct {
	// Format is the version of the JSON.
	Format string `json:"format"`
	// Rows is the number of reference rows, > 0.
	Rows int `json:"rows"`
	// Days are the UTC days of the rows, in whole days since 1970-01-01, ascending.
	Days []int `json:"days"`
	// Features are in the order of the vector; raw inputs come last.
	Features []Feature `json:"features"`
	// Ranges are the ranges of all features in the model's schema, watched or not, in its order. Older profiles have
	// none.
	Ranges []Range `json:"ranges,omitempty"`

	// scored is how many features are not raw inputs; weighted reports whether the features have weights.
	scored   int
	weighted bool
	// offsets[i] is where the bins of feature i start in [Counts]; the last entry is their total.
	offsets []int
}

// MaxWatched limits the model features in a profile. Of a larger schema, it has those with the largest weights. It bounds
// the memory of a [Ring] and the number of metrics.
const MaxWatched = 64

// The formats of a profile. The first has no steps, units or weights.
const (
	profileFormat      = "greenlight/drift_profile/v2"
	firstProfileFormat = "greenlight/drift_profile/v1"
)

// Column is one feature of the reference rows.
type Column struct {
	Name string
	// Role is [ModelFeature] if empty.
	Role Role
	// Domain limits the possible values; nil means all finite numbers.
	Domain *Domain
	// Weight is defined in [Feature]; 0 for all columns if unknown.
	Weight float64
	// Values has one value per row; NaN is missing.
	Values []float64
}

// Range spans the 0.05 % to 99.95 % quantiles of a feature in the reference (type 7), both ends included.
type Range struct {
	Name string  `json:"name"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// rangeTail is the share of the reference below a range, and above it.
const rangeTail = 0.0005

// NewRanges returns the ranges of the features. values returns a new slice with the feature's values in the reference. It
// returns nil if a feature has no values, or if its range is not finite.
func NewRanges(features []string, values func(feature string) []float64) []Range {
	ranges := make([]Range, 0, len(features))
	for _, name := range features {
		v := values(name)
		slices.Sort(v)
		r := Range{name, stats.Quantile(v, rangeTail), stats.Quantile(v, 1-rangeTail)}
		if r.check() != nil {
			return nil
		}
		ranges = append(ranges, r)
	}
	return ranges
}

func (r Range) check() error {
	if !(-math.MaxFloat64 <= r.Low && r.Low <= r.High && r.High <= math.MaxFloat64) { // NaN too
		return fmt.Errorf("range of feature %q from %v to %v: want finite numbers in ascending order", r.Name, r.Low, r.High)
	}
	return nil
}

// NewProfile returns the profile of reference rows, given as columns of equal length with the UTC day of each row. The
// order of rows does not matter. It returns an error without columns or rows, or if lengths, names or domains are
// invalid.
func NewProfile(columns []Column, days []int) (*Profile, error) {
	if len(columns) == 0 || len(days) == 0 {
		return nil, fmt.Errorf("%d columns of %d rows: want at least one of each", len(columns), len(days))
	}
	p := &Profile{Format: profileFormat, Rows: len(days), Days: slices.Compact(slices.Sorted(slices.Values(days)))}
	row := make(map[int]int, len(p.Days))
	for i, d := range p.Days {
		row[d] = i
	}
	byDay := make([][]int, len(p.Days))
	for i, d := range days {
		byDay[row[d]] = append(byDay[row[d]], i)
	}
	for _, c := range columns {
		if len(c.Values) != len(days) {
			return nil, fmt.Errorf("feature %q: %d values for %d rows", c.Name, len(c.Values), len(days))
		}
		f := newFeature(c, byDay)
		total := make([]int, f.Bins())
		for range p.Days {
			f.Daily = append(f.Daily, make([]int, f.Bins()))
		}
		for i, x := range c.Values {
			bin := f.Bin(x)
			total[bin]++
			f.Daily[row[days[i]]][bin]++
		}
		f.Shares = shares(total, p.Rows)
		p.Features = append(p.Features, f)
	}
	if err := p.bind(); err != nil {
		return nil, err
	}
	return p, nil
}

// UnmarshalJSON reads a profile and rejects one whose parts are inconsistent.
func (p *Profile) UnmarshalJSON(raw []byte) error {
	type plain Profile
	var read plain
	if err := json.Unmarshal(raw, &read); err != nil {
		return err
	}
	*p = Profile(read)
	return p.bind()
}

// bind checks the parts against each other and prepares the search for bins.
func (p *Profile) bind() error {
	if p.Format != profileFormat && p.Format != firstProfileFormat {
		return fmt.Errorf("profile: format %q: want %q or %q", p.Format, profileFormat, firstProfileFormat)
	}
	if len(p.Features) == 0 || p.Rows <= 0 {
		return fmt.Errorf("profile of %d features and %d rows: want at least one of each", len(p.Features), p.Rows)
	}
	for i := 1; i < len(p.Days); i++ {
		if p.Days[i] <= p.Days[i-1] {
			return fmt.Errorf("profile: day %d after day %d: want ascending days", p.Days[i], p.Days[i-1])
		}
	}
	if err := p.assign(); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	for _, r := range p.Ranges {
		if err := r.check(); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
	}
	names := make(map[string]bool, len(p.Features))
	p.offsets = make([]int, 1, len(p.Features)+1)
	for i := range p.Features {
		f := &p.Features[i]
		if f.Name == "" || names[f.Name] {
			return fmt.Errorf("profile: feature %d: name %q is empty or taken", i, f.Name)
		}
		names[f.Name] = true
		if err := f.check(p.Days, p.Rows); err != nil {
			return fmt.Errorf("profile: feature %q: %w", f.Name, err)
		}
		f.search = newSearch(f)
		p.offsets = append(p.offsets, p.offsets[i]+f.Bins())
	}
	for day := range p.Days {
		want := p.dayRows(0, day)
		for i := range p.Features {
			if have := p.dayRows(i, day); have != want || have == 0 {
				return fmt.Errorf("profile: feature %q: %d rows on day %d, want %d, more than 0", p.Features[i].Name, have, p.Days[day], want)
			}
		}
	}
	return nil
}

// assign checks the roles and counts the features that are not raw inputs.
func (p *Profile) assign() error {
	p.scored = len(p.Features)
	features, weights := 0, 0.0
	for i := range p.Features {
		f := &p.Features[i]
		if f.Weight != 0 && f.Role != "" && f.Role != ModelFeature {
			return fmt.Errorf("feature %q: weight %v of a %s: only the model's features have one", f.Name, f.Weight, f.Role)
		}
		switch f.Role {
		case "", ModelFeature:
			f.Role = ModelFeature
			features++
			weights += f.Weight
		case Score:
		case RawInput:
			p.scored = min(p.scored, i)
			continue
		default:
			return fmt.Errorf("feature %q: role %q: want %q, %q or %q", f.Name, f.Role, ModelFeature, Score, RawInput)
		}
		if p.scored < i {
			return fmt.Errorf("feature %q: %s after a raw input: raw inputs come last", f.Name, f.Role)
		}
	}
	if features == 0 {
		return errors.New("no model feature: the overall index needs at least one")
	}
	if p.weighted = weights != 0; p.weighted && !(math.Abs(weights-1) <= 1e-6) {
		return fmt.Errorf("the weights of the features add up to %v: want 1", weights)
	}
	return nil
}

// Scored returns the number of features in every vector: the model's features and its score. The raw inputs follow
// them.
func (p *Profile) Scored() int { return p.scored }

// overall returns the mean over the model's features of one value per feature.
func (p *Profile) overall(values []float64) float64 {
	sum, n := 0.0, 0
	for i := range p.Features {
		if p.Features[i].Role == ModelFeature {
			sum += values[i]
			n++
		}
	}
	return sum / float64(n)
}

// Weighted returns the weighted mean over the model's features of one value per feature; ok is false if the profile has
// no weights.
func (p *Profile) Weighted(values []float64) (mean float64, ok bool) {
	if !p.weighted {
		return 0, false
	}
	for i := range p.Features {
		if w := p.Features[i].Weight; w > 0 {
			mean += w * values[i]
		}
	}
	return mean, true
}

// dayRows returns the number of rows of a day, from the bins of a feature.
func (p *Profile) dayRows(feature, day int) int {
	n := 0
	for _, v := range p.Features[feature].Daily[day] {
		n += v
	}
	return n
}

// ErrProfile is returned for counts that were made with another profile.
var ErrProfile = errors.New("counts are of another profile")

// PSI returns the index of each feature, and the overall index: the mean over the model's features. An index without
// rows is NaN. It panics if the counts are of another profile.
func (p *Profile) PSI(c *Counts) (overall float64, features []float64) {
	if c.profile != p {
		panic("drift: " + ErrProfile.Error())
	}
	features = make([]float64, len(p.Features))
	for i := range p.Features {
		features[i] = PSI(p.Features[i].Shares, c.Shares(i))
	}
	return p.overall(features), features
}
