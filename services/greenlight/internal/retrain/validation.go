package retrain

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

const (
	// adfValues is the largest number of values for the stationarity test, which needs hours, not minutes: see
	// [stats.DickeyFuller].
	adfValues = 1000
	// unitRoot is the p-value at or above which a series counts as a random walk.
	unitRoot = 0.05
	// mostMissing is the share of missing values above which a feature is flagged.
	mostMissing = 0.05
	// redundant is the absolute correlation above which two features are flagged: one of them adds only variance.
	redundant = 0.95
	// replicates is the number of draws for the noise of a PSI, seed is their random seed.
	replicates, seed = 500, 1
)

// Validation describes the features before training. It does not judge them, because the gate judges the model.
type Validation struct {
	Rows int `json:"rows"`
	Days int `json:"days"`
	// FirstHalfDays and SecondHalfDays are the days in the two halves of the window.
	FirstHalfDays  int `json:"first_half_days"`
	SecondHalfDays int `json:"second_half_days"`
	// Thinning is n if the stationarity test uses every n-th row.
	Thinning    int         `json:"adf_thinning_rows"`
	Features    []Health    `json:"features"`
	Correlation Correlation `json:"correlation"`
}

// Health is the state of one feature.
type Health struct {
	Feature string `json:"feature"`
	// InCandidate is true if the candidate uses the feature.
	InCandidate bool `json:"in_candidate"`
	// Missing is the share of minutes without a value, counted from the first minute with all features, in [0,1].
	Missing float64 `json:"missing"`
	// ADF is nil if the test is not possible; Problem is the reason.
	ADF     *stats.ADF `json:"adf"`
	Problem string     `json:"problem,omitempty"`
	// Halves is the drift from the first half of the days to the second; nil if there are too few days.
	Halves *drift.FeatureReading `json:"halves"`
	// Flags lists the problems of the feature.
	Flags []string `json:"flags"`
}

// Status formats the flags.
func (h Health) Status() string {
	if len(h.Flags) == 0 {
		return "ok"
	}
	return strings.Join(h.Flags, ", ")
}

// Validate examines the features. The population must not be empty.
func Validate(p *Population) (*Validation, error) {
	n := p.Rows.Len()
	v := &Validation{Rows: n, Days: len(p.Days), Thinning: (n + adfValues - 1) / adfValues, Features: []Health{}}
	halves, err := v.halves(p)
	if err != nil {
		return nil, fmt.Errorf("drift between the halves of the window: %w", err)
	}
	columns := make([][]float64, 0, len(p.Features()))
	for j, name := range p.Features() {
		values := p.column(name, 0, n)
		columns = append(columns, values)
		h := Health{Feature: name, InCandidate: p.Candidate.Index(name) >= 0, Missing: p.missing(name), Flags: []string{}}
		h.stationarity(thin(values, v.Thinning))
		if halves != nil {
			h.Halves = &halves.Features[j]
			if h.Halves.Verdict == gate.Fail {
				h.Flags = append(h.Flags, "shifts")
			}
		}
		if h.Missing > mostMissing {
			h.Flags = append(h.Flags, fmt.Sprintf("%.0f %% missing", 100*h.Missing))
		}
		v.Features = append(v.Features, h)
	}
	v.Correlation = newCorrelation(p.Features(), columns)
	return v, nil
}

// halves measures the drift from the first half of the days to the second. It returns nil if the first half has fewer
// than two days, because its noise cannot be estimated then.
func (v *Validation) halves(p *Population) (*drift.Snapshot, error) {
	half := len(p.Days) / 2
	v.FirstHalfDays, v.SecondHalfDays = half, len(p.Days)-half
	if half < 2 {
		return nil, nil
	}
	middle := p.Rows.From(p.Days[half])
	return p.measure(p.Features(), 0, middle, middle, p.Rows.Len())
}

// missing returns the share of minutes at which the feature is undefined, counted from the first row.
func (p *Population) missing(name string) float64 {
	column := p.Frame.Column(name)[p.Rows.Minute[0]:]
	n := 0
	for _, x := range column {
		if math.IsNaN(x) {
			n++
		}
	}
	return float64(n) / float64(len(column))
}

func (h *Health) stationarity(x []float64) {
	adf, err := stats.DickeyFuller(x)
	switch {
	case errors.Is(err, stats.ErrDegenerate):
		h.Problem = err.Error()
		h.Flags = append(h.Flags, "constant")
	case err != nil:
		h.Problem = err.Error()
		h.Flags = append(h.Flags, "not tested")
	default:
		h.ADF = &adf
		if !(adf.PValue < unitRoot) {
			h.Flags = append(h.Flags, "unit root")
		}
	}
}

// thin returns every step-th value.
func thin(x []float64, step int) []float64 {
	out := make([]float64, 0, len(x)/step+1)
	for i := 0; i < len(x); i += step {
		out = append(out, x[i])
	}
	return out
}
