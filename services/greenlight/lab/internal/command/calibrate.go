package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/calibrate"
)

// calibrateFlags configure greenlight-lab calibrate.
type calibrateFlags struct {
	flags.Data

	trials   int
	draw     uint64
	evidence string
}

// calibrationReport is the body of drift_calibration.json.
type calibrationReport struct {
	FalseAlarms []calibrate.Alarms `json:"false_alarms"`
	Power       []calibrate.Power  `json:"power"`
	SLO         gate.Scorecard     `json:"slo"`
}

// calibratedRows are the sizes of the present whose false alarms have a target.
var calibratedRows = []int{1000, 5000, 20_000}

// calibrationDays is the length of the simulated market.
const calibrationDays = 120

func calibrateCommand(c console.Console) *cobra.Command {
	var f calibrateFlags
	cmd := &cobra.Command{
		Use: "calibrate", Short: "Measure how often the drift gate raises a false alarm, and how often it misses a change",
		Long: `Calibrate repeatedly draws a reference and a present from the same days. Nothing has changed, so every drift that the gate
reports is a false alarm. The days come from a simulated market, from a stationary autoregressive process, and from --data
(at least 42 days). Each reference has 28 days, thinned to 10,000 rows, and the noise is drawn 400 times. The textbook rule,
PSI > 0.2, is shown for comparison. "In a row" takes consecutive days instead of drawing them: they are correlated, so there
is more noise than the gate assumes.

Then it changes distributions by known amounts and counts how often the gate detects them. The table has the measured index
and the exact one from the formulas of the distributions.

It writes drift_calibration.json and exits 3 when a target is missed: at most 5 % false alarms, at least 90 % of the changes detected.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.trials < 1 {
				return console.Usagef("--trials %d: want at least 1", f.trials)
			}
			return f.run(cmd.Context(), c)
		},
	}
	fs := cmd.Flags()
	f.Declare(fs)
	f.Simulation.Days = calibrationDays
	fs.Lookup("days").DefValue = fmt.Sprint(calibrationDays)
	fs.IntVar(&f.trials, "trials", 1000, "number of trials per row")
	fs.Uint64Var(&f.draw, "draw-seed", 1, "seed of the draws")
	flags.Evidence(fs, &f.evidence)
	cmd.AddCommand(calibrateQualityCommand(c))
	return cmd
}

func (f *calibrateFlags) run(ctx context.Context, c console.Console) error {
	header := evidence.Header{Schema: "greenlight/drift_calibration/v1", Source: evidence.Simulated, Git: console.Revision()}
	pools, err := f.pools(c, &header)
	if err != nil {
		return err
	}
	o := calibrate.Options{Trials: f.trials, Seed: f.draw}
	var report calibrationReport
	for _, p := range pools {
		o.Progress = c.Progress("false alarms, " + p.Name)
		alarms, err := calibrate.FalseAlarms(ctx, p, calibratedRows, o)
		if err != nil {
			return console.WithHint(err, "--days makes the simulated market longer; data needs as many days")
		}
		report.FalseAlarms = append(report.FalseAlarms, alarms...)
		for _, days := range []int{1, 7} {
			row, err := calibrate.Consecutive(ctx, p, days, o)
			if err != nil {
				return err
			}
			report.FalseAlarms = append(report.FalseAlarms, row)
		}
	}
	o.Progress = c.Progress("power")
	if report.Power, err = calibrate.Powers(ctx, o); err != nil {
		return err
	}
	report.SLO = calibrationTargets(report)
	if err := sayCalibration(c, report); err != nil {
		return err
	}
	return conclude(c, f.evidence, "drift_calibration.json", header, report, report.SLO)
}

// conclude writes a report as evidence, and prints its verdict.
func conclude(c console.Console, folder, name string, header evidence.Header, report any, slo gate.Scorecard) error {
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(store.WriteJSON(name, header, report), store.Close()); err != nil {
		return err
	}
	c.Say("evidence  %s (%s)\n", filepath.Join(folder, name), header.Source)
	return c.Verdict(slo)
}

// pools returns the days to draw from.
func (f *calibrateFlags) pools(c console.Console, header *evidence.Header) ([]*calibrate.Pool, error) {
	schema, ok := feature.Lookup(feature.DefaultSchema)
	if !ok {
		return nil, fmt.Errorf("no schema %s", feature.DefaultSchema)
	}
	market := func(d *flags.Data, name string) (*calibrate.Pool, error) {
		data, err := d.Load(c)
		if err != nil {
			return nil, err
		}
		frame, err := feature.Compute(data.Bars)
		if err != nil {
			return nil, err
		}
		header.Inputs = append(header.Inputs, data.Inputs()...)
		if name == "" {
			name = data.Name
		}
		return calibrate.MarketPool(name, frame, schema), nil
	}
	simulated := f.Data
	simulated.Path = ""
	first, err := market(&simulated, "simulated")
	if err != nil {
		return nil, err
	}
	pools := []*calibrate.Pool{
		first, calibrate.AutoregressivePool(f.Simulation.Days, []float64{0, 0.9, 0.99, 0.999}, f.draw),
	}
	if f.Path != "" {
		traded, err := market(&f.Data, "")
		if err != nil {
			return nil, err
		}
		pools = append(pools, traded)
	}
	return pools, nil
}

// calibrationTargets returns the rows that have a target: drawn days, and changes of known size.
func calibrationTargets(r calibrationReport) gate.Scorecard {
	var rules []gate.Rule
	seen := make(map[string]gate.Observation)
	add := func(name string, op gate.Op, threshold float64, k, n int) {
		rules = append(rules, gate.Rule{Name: name, Op: op, Threshold: threshold, Unit: gate.Ratio, MinSamples: 100})
		seen[name] = gate.Rate(uint64(k), uint64(n))
	}
	for _, a := range r.FalseAlarms {
		if !a.Consecutive {
			add(fmt.Sprintf("false alarms, %s, %d rows", a.Pool, a.Rows), gate.AtMost, 0.05, a.Gate, a.Trials)
		}
	}
	for i, p := range r.Power {
		if i == 0 {
			add("found: "+p.Change, gate.AtLeast, 0.9, p.Failed, p.Trials)
		} else {
			add("moderate: "+p.Change, gate.AtLeast, 0.9, p.Warned, p.Trials)
		}
	}
	return gate.Judge(rules, seen)
}

func sayCalibration(c console.Console, r calibrationReport) error {
	share := func(k, n int) string { return fmt.Sprintf("%.1f %%", 100*float64(k)/float64(n)) }
	psi := func(v float64) string { return fmt.Sprintf("%.3f", v) }
	alarms := table.New("Nothing has changed", ">rows", ">days", ">trials", ">mean PSI", fmt.Sprintf(">literal PSI > %v", drift.DefaultLimits().Overall), ">gate FAIL", ">any feature FAIL")
	for _, a := range r.FalseAlarms {
		name := a.Pool
		if a.Consecutive {
			name += ", in a row"
		}
		alarms.Row(name, a.Rows, a.Days, a.Trials, psi(a.MeanPSI), share(a.Literal, a.Trials), share(a.Gate, a.Trials), share(a.GateFeature, a.Trials))
	}
	power := table.New("Changed", ">rows", ">trials", ">mean PSI", ">by the formula", ">gate FAIL", ">at least moderate")
	for _, p := range r.Power {
		power.Row(p.Change, p.Rows, p.Trials, psi(p.MeanPSI), psi(p.TheoryPSI), share(p.Failed, p.Trials), share(p.Warned, p.Trials))
	}
	for _, t := range []*table.Table{alarms, power} {
		c.Say("")
		if err := t.Text(c.Out); err != nil {
			return err
		}
	}
	c.Say("")
	return nil
}

// qualityCalibration is the body of quality_calibration.json.
type qualityCalibration struct {
	Scenarios []calibrate.Quality `json:"scenarios"`
	SLO       gate.Scorecard      `json:"slo"`
}

func calibrateQualityCommand(c console.Console) *cobra.Command {
	var o calibrate.QualityOptions
	var folder string
	cmd := &cobra.Command{
		Use: "quality", Short: "Measure how often a verdict on quality is wrong, and how long it takes",
		Long: `Quality simulates labels that look 15 minutes ahead and overlap, with one row per minute and symbol, and judges them like a live run.
If model and baseline have the same loss by construction, every FAIL and every BETTER is a false claim, whenever it occurs.
"Wrong" counts the claims that contradict the true mean difference at that time. For one symbol it also counts the claims of
per-request tests, which ignore that labels overlap: an e-process read after every request, and a z-test read every hour.

Then it measures how soon a better model is detected, and how soon a sabotage: every score is moved the wrong way, but stays within
0.05 of the baseline, so that it still matches.

It writes quality_calibration.json and exits 3 when a target is missed.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Trials < 1 || o.Days < 2 {
				return console.Usagef("--runs %d, --days %d: want at least 1 run of 2 days", o.Trials, o.Days)
			}
			o.Progress = c.Progress("simulating")
			rows, err := calibrate.Qualities(cmd.Context(), o)
			if err != nil {
				return err
			}
			report := qualityCalibration{Scenarios: rows, SLO: qualityTargets(rows)}
			if err := qualityTable(rows).Text(c.Out); err != nil {
				return err
			}
			c.Say("")
			header := evidence.Header{Schema: "greenlight/quality_calibration/v1", Source: evidence.Simulated, Git: console.Revision()}
			return conclude(c, folder, "quality_calibration.json", header, report, report.SLO)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&o.Trials, "runs", 400, "number of simulated runs per scenario")
	fs.IntVar(&o.Days, "days", 30, "length of a run")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the draws")
	flags.Evidence(fs, &folder)
	return cmd
}

func qualityTable(rows []calibrate.Quality) *table.Table {
	t := table.New("Scenario", ">symbols", ">runs", ">days", ">mean difference", ">FAIL", ">BETTER", ">wrong", ">median days", ">e-process a request", ">z-test a request")
	for _, q := range rows {
		share := func(k int) string { return fmt.Sprintf("%.1f %%", 100*float64(k)/float64(q.Runs)) }
		days, perRow := "-", [2]string{"-", "-"}
		if q.MedianDays != nil {
			days = fmt.Sprintf("%.1f", *q.MedianDays)
		}
		if q.Symbols == 1 {
			perRow = [2]string{share(q.EProcess), share(q.ZTest)}
		}
		t.Row(q.Scenario, q.Symbols, q.Runs, q.Days, fmt.Sprintf("%+.4f", q.MeanDifference), share(q.Failed), share(q.Better), share(q.Wrong), days, perRow[0], perRow[1])
	}
	return t
}

// qualityTargets judges the false claims, the time to a true one, and what a per-request test does instead.
func qualityTargets(rows []calibrate.Quality) gate.Scorecard {
	var rules []gate.Rule
	seen := make(map[string]gate.Observation)
	add := func(name string, op gate.Op, threshold float64, unit gate.Unit, o gate.Observation) {
		rules = append(rules, gate.Rule{Name: name, Op: op, Threshold: threshold, Unit: unit, MinSamples: 100})
		seen[name] = o
	}
	for _, q := range rows {
		runs := uint64(q.Runs)
		name := fmt.Sprintf("%s, %s", q.Scenario, text.Count(q.Symbols, "symbol"))
		switch q.Kind {
		case calibrate.Equal:
			add("false claims: "+name, gate.AtMost, 0.05, gate.Ratio, gate.Rate(uint64(q.Either), runs))
			if q.Symbols == 1 {
				add("e-process a request raises false alarms: "+name, gate.AtLeast, 0.5, gate.Ratio, gate.Rate(uint64(q.EProcess), runs))
			}
		case calibrate.EqualOnAverage:
			add("wrong claims: "+name, gate.AtMost, 0.05, gate.Ratio, gate.Rate(uint64(q.Wrong), runs))
		case calibrate.ModelBetter:
			o := gate.Missing("fewer than half of the runs are BETTER")
			if q.MedianDays != nil && q.Better >= q.Failed {
				o = gate.Measured(*q.MedianDays, runs)
			}
			add("median days to BETTER: "+name, gate.AtMost, q.MostDays, gate.Count, o)
		case calibrate.ModelWorse:
			add("found worse: "+name, gate.AtLeast, 0.99, gate.Ratio, gate.Rate(uint64(q.Failed), runs))
		}
	}
	return gate.Judge(rules, seen)
}
