package calibrate

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Power counts how often a change was detected.
type Power struct {
	// Change describes the change of the present, in units of the reference's distribution.
	Change string `json:"change"`
	// Rows are independent, so the effective number is the same.
	Rows   int `json:"rows"`
	Trials int `json:"trials"`
	// Failed is how often the verdict was FAIL (above 0.2 and the null's 99 % quantile), Warned how often the index was at
	// least moderate (above 0.1 and the null's 99 % quantile).
	Failed int `json:"failed"`
	Warned int `json:"warned"`
	// MeanPSI is the measured mean, TheoryPSI the index computed from the formulas of the two distributions, as an independent
	// check.
	MeanPSI   float64 `json:"mean_psi"`
	TheoryPSI float64 `json:"theory_psi"`
}

// effectiveRows of the present in the measurements of power; the reference has referenceRows.
const effectiveRows = 5000

// law is a distribution and its change.
type law struct {
	change       string
	draw         func(*rand.Rand) float64
	quantile     func(p float64) float64
	cdf          func(x float64) float64
	shift, scale float64
}

// laws are the changes with a target: a shift by half a standard deviation, and 1.5 times the scale, for normal and for
// heavy-tailed data.
func laws() []law {
	normal := law{
		draw:     (*rand.Rand).NormFloat64,
		quantile: stats.NormalQuantile,
		cdf:      func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) },
	}
	// Student's t with 2 degrees of freedom has closed forms: M. Jones (2002), "Student's simplest distribution",
	// The Statistician 51.
	student := law{
		quantile: func(p float64) float64 { return (2*p - 1) / math.Sqrt(2*p*(1-p)) },
		cdf:      func(x float64) float64 { return 0.5 + x/(2*math.Sqrt(2+x*x)) },
	}
	student.draw = func(rng *rand.Rand) float64 { return student.quantile(1 - rng.Float64()*(1-1e-12)) }
	with := func(l law, change string, shift, scale float64) law {
		l.change, l.shift, l.scale = change, shift, scale
		return l
	}
	return []law{
		with(normal, "normal, mean + 0.5 sigma", 0.5, 1),
		with(normal, "normal, 1.5 x scale", 0, 1.5),
		with(student, "Student t(2), 1.5 x scale", 0, 1.5),
	}
}

// theory returns the index between the law and its change, in deciles of the law.
func (l law) theory() float64 {
	p, q := make([]float64, 10), make([]float64, 10)
	moved := func(edge float64) float64 { return l.cdf((edge - l.shift) / l.scale) }
	before := 0.0
	for i := range p {
		p[i] = 0.1
		upTo := 1.0
		if i < 9 {
			upTo = moved(l.quantile(float64(i+1) / 10))
		}
		q[i], before = upTo-before, upTo
	}
	return drift.PSI(p, q)
}

// Powers measures how often each change is detected.
func Powers(ctx context.Context, o Options) ([]Power, error) {
	limits := drift.DefaultLimits()
	limits.Feature = limits.Overall // the only feature is judged as the overall index
	var all []Power
	for _, l := range laws() {
		p := Power{Change: l.change, Rows: effectiveRows, Trials: o.Trials, TheoryPSI: l.theory()}
		readings := make([]drift.FeatureReading, o.Trials)
		err := trials(ctx, o, func(trial int, rng *rand.Rand) error {
			reference, present := &Pool{Features: []string{"x"}}, &Pool{Features: []string{"x"}}
			for range referenceDays {
				reference.days = append(reference.days, l.day(rng, referenceRows/referenceDays, false))
			}
			for range presentDays {
				present.days = append(present.days, l.day(rng, (effectiveRows+presentDays-1)/presentDays, true))
			}
			profile, err := reference.profile(upTo(referenceDays), referenceRows)
			if err != nil {
				return err
			}
			s, err := profile.Snapshot(present.counts(profile, upTo(presentDays), effectiveRows), drift.NewNulls(profile, replicates, uint64(trial)),
				limits)
			if err != nil {
				return err
			}
			readings[trial] = s.Features[0]
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, r := range readings {
			p.Failed += count(r.Verdict == gate.Fail)
			p.Warned += count(r.PSI > max(drift.ModerateFrom, r.Q99))
			p.MeanPSI += r.PSI / float64(o.Trials)
		}
		all = append(all, p)
	}
	return all, nil
}

// day returns n independent rows.
func (l law) day(rng *rand.Rand, n int, changed bool) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = l.draw(rng)
		if changed {
			x[i] = l.shift + l.scale*x[i]
		}
	}
	return x
}

func upTo(n int) []int {
	days := make([]int, n)
	for i := range days {
		days[i] = i
	}
	return days
}
