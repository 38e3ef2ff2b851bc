package flags

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/trees"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Import has the flags that name a model to import and its data.
type Import struct {
	// File is the model's file.
	File string

	data                                         Data
	rule                                         Label
	sample                                       Table
	schema, name, version, to, column, heuristic string
	horizon                                      time.Duration
	allTrees                                     bool
}

// Declare declares the flags.
func (i *Import) Declare(fs *pflag.FlagSet) {
	i.data.Declare(fs)
	i.rule.Declare(fs)
	fs.StringVar(&i.File, "file", "", "the model's file (required)")
	fs.StringVar(&i.schema, "schema", "", "feature schema of the model's inputs: a built-in schema or a file; by default v1.8.1 if it has the inputs, and otherwise derived from the model's file")
	fs.StringVar(&i.sample.Path, "sample", "", "CSV or Parquet file with rows of the model's features, instead of market data")
	fs.StringVar(&i.sample.Time, "time", "", "column of --sample with the time of a row")
	fs.StringVar(&i.sample.Group, "group", "", "column of --sample with the symbol of a row, if it has several")
	fs.StringVar(&i.column, "label", "", "column of --sample with the label, 1 or 0")
	fs.DurationVar(&i.horizon, "horizon", 0, "how far ahead the label of --sample looks, for example 15m; by default the horizon of the schema")
	fs.StringVar(&i.heuristic, "baseline", "", "baseline.json, if --sample has no labels")
	fs.StringVar(&i.name, "name", "", "name in the registry; by default the name of the data")
	fs.StringVar(&i.version, "version", "", "version in the registry (required)")
	fs.BoolVar(&i.allTrees, "all-trees", false, "use all trees of the file, including those after an early stop (best_iteration)")
	fs.StringVar(&i.to, "trained-to", "", "day after the last day of the model's training data, YYYY-MM-DD")
	console.Require(fs, "horizon", "more than 0", func() bool { return i.horizon > 0 })
}

// Read reads the model and its data.
func (i *Import) Read(c console.Console) (*experiment.Foreign, *experiment.Data, error) {
	f, err := i.foreign()
	if err != nil {
		return nil, nil, err
	}
	data, err := i.read(c, f)
	return f, data, err
}

// foreign reads the model's file and the baseline.
func (i *Import) foreign() (*experiment.Foreign, error) {
	if i.File == "" || i.version == "" {
		return nil, console.Usagef("--file and --version are required")
	}
	f := &experiment.Foreign{Name: i.name, Version: i.version, AllTrees: i.allTrees, Label: i.rule.Rule()}
	if i.to != "" {
		t, err := time.Parse(time.DateOnly, i.to)
		if err != nil {
			return nil, console.Usagef("--trained-to %q: want a date, YYYY-MM-DD", i.to)
		}
		f.TrainedTo = t
	}
	var err error
	if f.Raw, err = durable.ReadFile(i.File, trees.MaxFile); err != nil {
		return nil, err
	}
	if f.Schema, err = i.schemaOf(f.Raw); err != nil {
		return nil, err
	}
	// Check the file before reading the data, so that errors appear immediately.
	if _, _, err := model.NewTrees(f.Raw, f.Schema, model.Label{}, i.allTrees); err != nil {
		return nil, fmt.Errorf("%s: %w", i.File, err)
	}
	if i.heuristic != "" {
		if f.Baseline, err = model.LoadBaseline(i.heuristic); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// read reads the market data or the sample.
func (i *Import) read(c console.Console, f *experiment.Foreign) (*experiment.Data, error) {
	if i.sample.Path == "" {
		if !f.Schema.Computable() {
			return nil, console.WithHint(fmt.Errorf("%s takes features that cannot be computed from market data: schema %s", i.File, f.Schema), "give rows that have them: --sample, with --time and --label")
		}
		if i.column != "" || i.horizon != 0 || i.heuristic != "" {
			return nil, console.Usagef("--label, --horizon and --baseline are for rows of the model's own features: give them with --sample")
		}
		return i.data.Load(c)
	}
	if given := i.rule.given(); given != "" {
		return nil, console.Usagef("--%s is for the label of market data: with --sample, use --label for the column and --horizon for how far ahead it looks", given)
	}
	horizon := i.horizon
	if i.column != "" && horizon == 0 {
		horizon = f.Schema.Horizon
	}
	if i.column != "" && (i.sample.Time == "" || horizon == 0) {
		return nil, console.Usagef("--label needs --time and --horizon: rows whose label overlaps a test are left out of the training of the baseline")
	}
	if horizon > 0 {
		var err error
		if f.Schema, err = f.Schema.WithHorizon(horizon); err != nil {
			return nil, err
		}
	}
	o := experiment.TableOptions{Schema: f.Schema, Label: i.column, Horizon: horizon}
	if f.Baseline != nil {
		o.Baseline = f.Baseline.Inputs()
	}
	return i.sample.Load(c, o)
}

// schemaOf returns the schema of the model's file: the named one, or one derived from its inputs.
func (i *Import) schemaOf(raw []byte) (*feature.Schema, error) {
	if i.schema != "" {
		return Schema(i.schema)
	}
	base, _, _ := strings.Cut(filepath.Base(i.File), ".")
	s, err := model.SchemaOf(raw, experiment.RegistryName(cmp.Or(i.name, base), "model"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.File, err)
	}
	return s, nil
}
