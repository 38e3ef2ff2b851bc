package flags

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rows"
)

// Compare has the flags that name the two sets of rows to compare.
type Compare struct {
	Options driftcompare.Options

	reference, current         Data
	rows                       Rows
	referenceDays, currentDays int
	schema, models, model      string
	changed                    func(name string) bool
}

// Declare declares the flags.
func (f *Compare) Declare(fs *pflag.FlagSet) {
	f.changed = fs.Changed
	fs.StringVar(&f.reference.Path, "reference", "", "file or folder of market data, or folder or s3:// URL of a feature log")
	fs.StringVar(&f.current.Path, "current", "", "the same, to compare with the reference")
	fs.IntVar(&f.referenceDays, "reference-days", 0, "instead of --current: number of UTC days at the start that are the reference; the rest is current")
	fs.IntVar(&f.currentDays, "current-days", 0, "number of UTC days of the current rows to use, from the first; 0 is all")
	fs.StringVar(&f.schema, "schema", feature.DefaultSchema, "feature schema to compare by; with --model, the schema of the model")
	fs.StringVar(&f.model, "model", "", "model whose score is compared too: name/version, or version; by default none")
	fs.StringVar(&f.models, "models", "models", "registry folder with the model")
	fs.IntVar(&f.Options.Classifier.Permutations, "permutations", f.Options.Classifier.Permutations, "maximum number of permutations of the days to judge the classifier; 0 disables it")
	fs.StringVar(&f.reference.Symbol, "symbol", "", "instrument of the reference, if it has several, and of --current unless --current-symbol is given")
	fs.StringVar(&f.current.Symbol, "current-symbol", "", "instrument of the current set")
	fs.IntVar(&f.reference.MaxBadRows, "max-bad-rows", 0, "number of broken rows of a set that may be skipped before it is an error")
	fs.DurationVar(&f.reference.UTCOffset, "utc-offset", 0, "offset of the files' clock from UTC, for example -5h")
	fs.BoolVar(&f.reference.TradesOnly, "trades-only", false, "read the trades of a folder that also has quotes")
	f.reference.OffsetSet = func() bool { return fs.Changed("utc-offset") }
	f.rows.Declare(fs)
}

// Validate checks the flags and fills in those of the current set.
func (f *Compare) Validate() error {
	switch {
	case f.reference.Path == "":
		return errors.New("--reference is required")
	case (f.current.Path == "") == (f.referenceDays == 0):
		return errors.New("give either --current, or --reference-days to split the reference by time")
	case f.referenceDays < 0 || f.currentDays < 0 || f.Options.Classifier.Permutations < 0:
		return errors.New("--reference-days, --current-days and --permutations must be 0 or more")
	case f.changed("current-symbol") && f.current.Path == "":
		return errors.New("--current-symbol needs --current")
	}
	if err := f.rows.Validate(f.reference.Path, f.current.Path); err != nil {
		return err
	}
	path, symbol := f.current.Path, f.current.Symbol
	f.current = f.reference
	f.current.Path = path
	if symbol != "" {
		f.current.Symbol = symbol
	}
	return nil
}

// Sets reads the two sets, and the model whose score is compared; nil if there is none.
func (f *Compare) Sets(ctx context.Context, c console.Console) (reference, current *driftcompare.Set, m *evidence.Model, err error) {
	var scorer model.Scorer
	schema, ok := feature.Lookup(f.schema)
	if f.model != "" {
		a, err := model.OpenRegistry(f.models).Load(f.model)
		if err != nil {
			return nil, nil, nil, console.WithHint(err, "greenlight train creates models; --models names their folder")
		}
		if f.changed("schema") && a.Schema.Name != f.schema {
			return nil, nil, nil, console.Usagef("model %s takes schema %s, but --schema is %s", f.model, a.Schema.Name, f.schema)
		}
		if !a.Schema.Computable() {
			return nil, nil, nil, console.Usagef("model %s takes features that only callers send: drift compare reads market data and logs of the built-in schemas; greenlight drift snapshot measures the drift of the rows that ml-engine scored", f.model)
		}
		schema, ok = a.Schema, true
		scorer, m = a.Scorer, &evidence.Model{Version: a.Manifest.Version, Digest: a.Digest()}
	}
	if !ok {
		return nil, nil, nil, console.Usagef("unknown feature schema %q: the built-in schemas are %s", f.schema, strings.Join(feature.NewKnown().Names(), ", "))
	}
	if reference, err = f.read(ctx, c, &f.reference, schema, scorer); err != nil {
		return nil, nil, nil, err
	}
	if f.current.Path == "" {
		reference, current = reference.Split(f.referenceDays)
	} else if current, err = f.read(ctx, c, &f.current, schema, scorer); err != nil {
		return nil, nil, nil, err
	}
	if f.currentDays > 0 {
		current, _ = current.Split(f.currentDays)
	}
	return reference, current, m, nil
}

// read reads one set, which may be in a store.
func (f *Compare) read(ctx context.Context, c console.Console, d *Data, schema *feature.Schema, scorer model.Scorer) (s *driftcompare.Set, err error) {
	if !rows.IsURL(d.Path) {
		return ReadSet(c, d, schema, scorer)
	}
	log, closeLog, err := f.rows.Open(ctx, c, d.Path, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	return readLog(c, log, d.Symbol, schema, scorer)
}
