package flags

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Label is the rule of the built-in label.
type Label struct {
	horizon  time.Duration
	quantile float64
	// given returns the name of a flag that was given; empty if there is none.
	given func() string
}

// Declare declares the flags.
func (l *Label) Declare(fs *pflag.FlagSet) {
	rule := label.Default()
	fs.DurationVar(&l.horizon, "label-horizon", time.Duration(rule.Horizon)*time.Minute, "how far ahead the built-in label looks, in whole minutes")
	fs.Float64Var(&l.quantile, "label-quantile", rule.Quantile, "quantile of the range, on the training window, above which the built-in label is positive")
	console.Require(fs, "label-horizon", "whole minutes, 1m to 24h", func() bool {
		return l.horizon%time.Minute == 0 && l.horizon >= time.Minute && l.horizon <= label.MaxHorizon*time.Minute
	})
	console.Require(fs, "label-quantile", "more than 0 and less than 1", func() bool { return l.quantile > 0 && l.quantile < 1 })
	l.given = func() string {
		for _, name := range []string{"label-horizon", "label-quantile"} {
			if fs.Changed(name) {
				return name
			}
		}
		return ""
	}
}

// Rule returns the rule.
func (l *Label) Rule() label.Rule {
	return label.Rule{Horizon: int(l.horizon / time.Minute), Quantile: l.quantile}
}

// Train has the flags that name the models to train and their data.
type Train struct {
	Data
	Label

	// Model is the version of the model under trial.
	Model    string
	versions map[string]string
	own      ownLabel
}

// ownLabel has the flags that name a desk's own features and label in a table.
type ownLabel struct {
	schema, label string
	horizon       time.Duration
	inputs        []string
	// modelSet reports whether --model was given.
	modelSet func() bool
}

// Declare declares the flags.
func (t *Train) Declare(fs *pflag.FlagSet) {
	t.Data.Declare(fs)
	t.Label.Declare(fs)
	fs.StringVar(&t.Model, "model", DefaultModel, "version of the model under trial, which the report is about")
	fs.StringToStringVar(&t.versions, "versions", experiment.DefaultVersions(), "version of the model to train, by feature schema")
}

// DeclareTable declares the flags of a table.
func (t *Train) DeclareTable(fs *pflag.FlagSet) {
	t.Table = DeclareTable(fs)
	o := &t.own
	fs.StringVar(&o.schema, "schema", "", "file with the schema of the features of --table")
	fs.StringVar(&o.label, "label", "", "column of --table with the label, 1 or 0")
	fs.DurationVar(&o.horizon, "horizon", 0, "how far ahead the label of --table looks, for example 15m; by default the horizon of the schema")
	fs.StringSliceVar(&o.inputs, "baseline-inputs", nil, "columns that the baseline is fitted to; by default the inputs of the built-in heuristic, or else the first features of the schema")
	o.modelSet = func() bool { return fs.Changed("model") }
	console.Require(fs, "horizon", "more than 0", func() bool { return o.horizon > 0 })
}

// Study loads the data and trains every model.
func (t *Train) Study(ctx context.Context, c console.Console) (*experiment.Study, error) {
	if t.Table != nil && t.Table.Path != "" {
		s, err := t.studyTable(ctx, c)
		switch {
		case errors.Is(err, train.ErrTooFewDays):
			return nil, console.WithHint(err, "give a table with at least 8 days of rows, or 19 for eval to pass")
		case errors.Is(err, train.ErrTooFewRows):
			return nil, console.WithHint(err, "give more rows per day, or a schema with fewer features: training needs more rows than features")
		}
		return s, err
	}
	data, err := t.Load(c)
	if err != nil {
		return nil, err
	}
	s, err := experiment.Run(ctx, data, experiment.Options{Versions: t.versions, Label: t.Rule(), Progress: c.Progress("training")})
	if errors.Is(err, train.ErrTooFewDays) {
		return nil, console.WithHint(err, "train on at least 9 days of one-minute data; greenlight run without --data simulates 42")
	}
	return s, err
}

// studyTable loads a table and trains the model of its schema.
func (t *Train) studyTable(ctx context.Context, c console.Console) (*experiment.Study, error) {
	o := &t.own
	if o.schema == "" || o.label == "" || t.Table.Time == "" {
		return nil, console.WithHint(console.Usagef("--table needs --schema, --label and --time"), "greenlight schema new --table %s writes a schema", t.Table.Path)
	}
	if given := t.given(); given != "" {
		return nil, console.Usagef("--%s is for the label of market data: the label of --table is its column %s, and --horizon sets how far ahead it looks", given, o.label)
	}
	schema, err := Schema(o.schema)
	if err != nil {
		return nil, err
	}
	if o.horizon == 0 {
		o.horizon = schema.Horizon
	}
	if o.horizon == 0 {
		return nil, console.Usagef("how far does the label look ahead? Give --horizon, or a horizon in the schema: rows whose label overlaps a test are left out of its training")
	}
	if schema, err = schema.WithHorizon(o.horizon); err != nil {
		return nil, err
	}
	data, err := t.Table.Load(c, experiment.TableOptions{Schema: schema, Label: o.label, Horizon: o.horizon, Baseline: o.inputs})
	if err != nil {
		return nil, err
	}
	if !o.modelSet() {
		t.Model = schema.Name + "-rc1"
	}
	c.Say("baseline  on %s (--baseline-inputs chooses others)", strings.Join(data.Table.Info.Baseline, ", "))
	return experiment.RunTable(ctx, data, schema, t.Model, c.Progress("training"))
}
