package calibrate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Options configures the measurements.
type Options struct {
	// Trials is the number of trials per row.
	Trials int
	// Seed is the seed of the draws.
	Seed uint64
	// Progress is called with the number of trials done and the total.
	Progress func(done, total int)
}

const (
	referenceDays = 28
	presentDays   = 7
	minutes       = 24 * 60
	// referenceRows is an even thinning of the 40,000 minutes of the reference: bins and noise keep those of its days.
	referenceRows = 10_000
	// replicates of each null: its 99 % quantile is the fourth largest of 400.
	replicates = 400
)

// Alarms counts the false alarms of a row: drift was reported although nothing had changed.
type Alarms struct {
	Pool string `json:"pool"`
	// Rows is the size of the present, from Days days. Consecutive reports whether the days follow the reference; otherwise
	// they were drawn.
	Rows        int  `json:"rows"`
	Days        int  `json:"days"`
	Consecutive bool `json:"consecutive"`
	Trials      int  `json:"trials"`
	// Gate and GateFeature count the trials with the verdict FAIL, for the overall index and for any feature. Literal counts
	// those whose overall index was above its threshold, which is the textbook rule.
	Gate        int `json:"gate"`
	GateFeature int `json:"gate_any_feature"`
	Literal     int `json:"literal"`
	// MeanPSI is the mean of the overall index.
	MeanPSI float64 `json:"mean_psi"`
}

// FalseAlarms draws, in each trial and for each number of rows, a reference and a present from the same days, without
// replacement. No day is in both.
func FalseAlarms(ctx context.Context, p *Pool, rows []int, o Options) ([]Alarms, error) {
	all := make([]Alarms, len(rows))
	for i, n := range rows {
		days := max(presentDays, (n+minutes-1)/minutes)
		if p.Days() < referenceDays+days {
			return nil, fmt.Errorf("%s has %d days: %d rows take %d", p.Name, p.Days(), n, referenceDays+days)
		}
		all[i] = Alarms{Pool: p.Name, Rows: n, Days: days, Trials: o.Trials}
		if err := all[i].measure(ctx, p, o, func(_ int, rng *rand.Rand) (reference, present []int) {
			drawn := rng.Perm(p.Days())
			return drawn[:referenceDays], drawn[referenceDays : referenceDays+days]
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Consecutive takes consecutive days instead of drawing them, as in production, where days are correlated: 28 days of
// reference, then the given number of days, starting at each day. The trials overlap, so they are not independent.
func Consecutive(ctx context.Context, p *Pool, days int, o Options) (Alarms, error) {
	starts := p.Days() - referenceDays - days + 1
	if starts < 1 {
		return Alarms{}, fmt.Errorf("%s has %d days: %d in a row take %d", p.Name, p.Days(), days, referenceDays+days)
	}
	a := Alarms{Pool: p.Name, Rows: days * minutes, Days: days, Consecutive: true, Trials: starts}
	o.Trials = starts
	err := a.measure(ctx, p, o, func(first int, _ *rand.Rand) (reference, present []int) {
		for d := range referenceDays + days {
			reference = append(reference, first+d)
		}
		return reference[:referenceDays], reference[referenceDays:]
	})
	return a, err
}

// measure fills the counts.
func (a *Alarms) measure(ctx context.Context, p *Pool, o Options, draw func(trial int, rng *rand.Rand) (reference, present []int)) error {
	type outcome struct {
		gate, feature, literal bool
		psi                    float64
	}
	outcomes := make([]outcome, o.Trials)
	err := trials(ctx, o, func(trial int, rng *rand.Rand) error {
		reference, present := draw(trial, rng)
		profile, err := p.profile(reference, referenceRows)
		if err != nil {
			return err
		}
		s, err := profile.Snapshot(p.counts(profile, present, a.Rows), drift.NewNulls(profile, replicates, uint64(trial)), drift.DefaultLimits())
		if err != nil {
			return err
		}
		u := outcome{gate: s.Overall.Verdict == gate.Fail, literal: s.Overall.PSI > s.Overall.Threshold, psi: s.Overall.PSI}
		for _, f := range s.Features {
			u.feature = u.feature || f.Verdict == gate.Fail
		}
		outcomes[trial] = u
		return nil
	})
	for _, u := range outcomes {
		a.Gate += count(u.gate)
		a.GateFeature += count(u.feature)
		a.Literal += count(u.literal)
		a.MeanPSI += u.psi / float64(o.Trials)
	}
	return err
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// trials runs them on all cores. Each has its own random source, so the result does not depend on their order.
func trials(ctx context.Context, o Options, run func(trial int, rng *rand.Rand) error) error {
	all := rig.Trials{N: o.Trials, AtOnce: runtime.GOMAXPROCS(0), Progress: o.Progress, Every: 20}
	return all.Run(ctx, func(i int) error { return run(i, rand.New(rand.NewPCG(o.Seed, uint64(i)))) })
}
