package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/retrain"
)

// retrainFlags are the flags that select the data and where the candidate and the report go.
type retrainFlags struct {
	data     flags.Data
	rows     flags.Rows
	log      string
	name     string
	options  retrain.Options
	models   string
	evidence string
}

func retrainCommand(c console.Console) *cobra.Command {
	r := retrainFlags{options: retrain.Options{Limits: retrain.DefaultLimits(), Git: console.Revision()}}
	cmd := &cobra.Command{
		Use: "retrain", Short: "Train the next candidate on newer data: validate, train, judge, measure drift, register",
		Long: `Retrain takes the newest days of a market (--data) or of what executors logged (--log), examines the features, trains
a candidate walk-forward, judges it by the offline gate against the baseline on the same rows, measures the drift of
every feature from training to holdout, and registers the candidate, with its own evaluation, under the next free version.
retrain_report.json, retrain_report.md and its figures go to the evidence folder.

It exits 1 and registers nothing if the data is insufficient: too few days, too few positives, a gap, a frozen feed, a split,
or a log without prices. It exits 3 if the candidate does not pass the offline gate. The candidate is registered anyway, so
that the report can be checked against it: a registered model is not released.

The log is the folder of an executor, or a dataset that greenlight rows push has made, in a folder or at s3://bucket/prefix.
The only prices in a log are mid and spread_bp, which are in schema v1.8; the label is then the range of the closing mids.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.validate(cmd.Flags().Changed); err != nil {
				return err
			}
			card, err := flags.Keep(c, r.evidence, func(store *evidence.Store) (gate.Scorecard, error) {
				return r.retrain(cmd.Context(), c, store)
			})
			if err != nil {
				return console.Advised(err, retrain.Hint(err))
			}
			return c.Verdict(card)
		},
	}
	fs, o := cmd.Flags(), &r.options
	r.data.Declare(fs)
	fs.StringVar(&r.log, "log", "", "folder or s3:// URL of a feature log, instead of --data")
	r.rows.Declare(fs)
	fs.IntVar(&o.WindowDays, "window", defaultWindow, "number of UTC days with data to use, counted back from the newest; 0 is all")
	fs.StringVar(&o.Schema, "schema", feature.DefaultSchema, "feature schema of the candidate")
	fs.StringVar(&o.Version, "version", "", "version of the candidate; by default the next free release candidate of the schema")
	fs.StringVar(&r.name, "name", "", "name of the candidate in the registry; by default the name of the data")
	fs.IntVar(&o.Limits.MinDays, "min-days", o.Limits.MinDays, "minimum number of UTC days with usable rows")
	fs.IntVar(&o.Limits.MinPositives, "min-positives", o.Limits.MinPositives, "minimum number of positive rows")
	fs.DurationVar(&o.Limits.MaxGap, "max-gap", o.Limits.MaxGap, "longest stretch without data")
	fs.StringVar(&r.models, "models", "models", "registry folder")
	flags.Evidence(fs, &r.evidence)
	console.OutputsVerdict(c, cmd)
	return cmd
}

func (r *retrainFlags) validate(changed func(string) bool) error {
	l := r.options.Limits
	switch {
	case r.log != "" && r.data.Path != "":
		return console.Usagef("give either --log or --data")
	case r.options.WindowDays < 0 || l.MinDays < 0 || l.MinPositives < 0 || l.MaxGap < 0:
		return console.Usagef("--window, --min-days, --min-positives and --max-gap must be 0 or more")
	}
	if err := r.rows.Validate(r.log); err != nil {
		return err
	}
	if r.log != "" {
		for _, flag := range []string{"seed", "days", "utc-offset", "max-bad-rows", "trades-only"} {
			if changed(flag) {
				return console.Usagef("--%s cannot be used with --log", flag)
			}
		}
	}
	return nil
}

// collect reads the newest days. The log is nil if they come from market files.
func (r *retrainFlags) collect(ctx context.Context, c console.Console) (data *experiment.Data, log *retrain.Log, err error) {
	days := r.options.WindowDays
	if r.log == "" {
		data, err = r.data.Load(c)
	} else if data, log, err = r.fromLog(ctx, c, days); err == nil {
		c.Say("data      %s: %d rows of the feature log %s, %d minutes with a price, %d rows without; source %s", data.Symbol, log.Rows, r.log, log.Used, log.Unusable, log.Sources)
		flags.SayUntimely(c, log.Untimely)
		c.Say("          labels are the %s", log.Label)
	}
	if err != nil {
		return nil, nil, err
	}
	data = retrain.Newest(data, days)
	if r.name != "" {
		data.Name = r.name
	}
	first, last := data.Raw[0], data.Raw[len(data.Raw)-1]
	c.Say("window    %d bars, %s to %s", len(data.Raw), clock(first.Start), clock(last.End()))
	if days > 0 {
		err = c.Indented(experiment.NewDataQuality(data.Quality).Lines)
	}
	return data, log, err
}

// fromLog reads the newest days of the feature log. The first of them warms up the features.
func (r *retrainFlags) fromLog(ctx context.Context, c console.Console, days int) (data *experiment.Data, log *retrain.Log, err error) {
	newest := 0
	if days > 0 {
		newest = days + 1
	}
	opened, closeLog, err := r.rows.Open(ctx, c, r.log, newest)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	return retrain.FromLog(opened, r.data.Symbol, days)
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04") }

// defaultWindow is four weeks out of time, the 14 days before the first test, and one day to warm up the features.
const defaultWindow = 14 + retrain.FourWeeks + 1

// retrain reads the data and runs the pipeline.
func (r *retrainFlags) retrain(ctx context.Context, c console.Console, store *evidence.Store) (gate.Scorecard, error) {
	data, log, err := r.collect(ctx, c)
	if err != nil {
		return gate.Scorecard{}, err
	}
	r.options.Registry = model.OpenRegistry(r.models)
	return retrain.Show(ctx, c, store, r.evidence, data, log, r.options)
}
