package cli

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

// compareFlags say what to compare with what.
type compareFlags struct {
	reference, current flags.Data
	referenceDays      int
	currentDays        int
	options            driftcompare.Options
	schema             string
	models             string
	model              string
	evidence           string
	check              bool
}

func driftCompareCommand(c console.Console) *cobra.Command {
	f := compareFlags{options: driftcompare.DefaultOptions()}
	cmd := &cobra.Command{
		Use: "compare", Short: "Measure the drift from one market or feature log to another, or within one",
		Long: `Compare takes one set of rows as the reference and measures how far another has drifted from it: the population stability
index (PSI) of every feature of the schema, of the raw inputs, and with --model of the score. A set is market data, as for
--data of the other commands, or the folder of a feature log. With --reference-days in place of --current, one set is cut
in time: its first days are the reference, the rest is current.

Each index covers one feature. In addition, a classifier measures whether the two sets can be distinguished by all features
of the model together, and by which.

It writes psi_compare.json, with a series of windows of 7 days through the current rows, and its figures to the evidence
folder. Verdicts are those of drift snapshot; the classifier and the series do not change them. The quality of market data
is judged too and can fail --check: the index of a frozen feed says nothing about a market.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(cmd.Flags().Changed); err != nil {
				return console.Usage(err)
			}
			return f.compare(c, cmd.Flags().Changed("schema"))
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.reference.Path, "reference", "", "file or folder of market data, or folder of a feature log")
	fs.StringVar(&f.current.Path, "current", "", "the same, to compare with the reference")
	fs.IntVar(&f.referenceDays, "reference-days", 0, "in place of --current: take the first so many UTC days for the reference, and the rest for current")
	fs.IntVar(&f.currentDays, "current-days", 0, "use the first so many UTC days of the current rows; 0 is all")
	fs.StringVar(&f.schema, "schema", feature.DefaultSchema, "feature schema to compare by; that of --model when there is one")
	fs.StringVar(&f.model, "model", "", "model whose score is compared too: name/version, or version; none when it is not given")
	fs.StringVar(&f.models, "models", "models", "registry folder with the model")
	fs.IntVar(&f.options.Classifier.Permutations, "permutations", f.options.Classifier.Permutations, "how often the days are exchanged at most to judge the classifier; 0 leaves it out")
	f.declareData(fs)
	declareCheck(fs, &f.check)
	flags.Evidence(fs, &f.evidence)
	return cmd
}

// declareData declares how both sets are read.
func (f *compareFlags) declareData(fs *pflag.FlagSet) {
	fs.StringVar(&f.reference.Symbol, "symbol", "", "instrument of the reference, where there are several, and of --current unless --current-symbol is given")
	fs.StringVar(&f.current.Symbol, "current-symbol", "", "instrument of the current set")
	fs.IntVar(&f.reference.MaxBadRows, "max-bad-rows", 0, "how many broken rows of a set may be left out before it is an error")
	fs.DurationVar(&f.reference.UTCOffset, "utc-offset", 0, "what the clock of the files is ahead of UTC, for example -5h")
	fs.BoolVar(&f.reference.TradesOnly, "trades-only", false, "read the trades of a folder that has quotes as well")
	f.reference.OffsetSet = func() bool { return fs.Changed("utc-offset") }
}

func (f *compareFlags) validate(changed func(string) bool) error {
	switch {
	case f.reference.Path == "":
		return errors.New("--reference is not given")
	case (f.current.Path == "") == (f.referenceDays == 0):
		return errors.New("give either --current, or --reference-days to cut the reference in time")
	case f.referenceDays < 0 || f.currentDays < 0 || f.options.Classifier.Permutations < 0:
		return errors.New("--reference-days, --current-days and --permutations are 0 or more")
	case changed("current-symbol") && f.current.Path == "":
		return errors.New("--current-symbol has no meaning without --current")
	}
	path, symbol := f.current.Path, f.current.Symbol
	f.current = f.reference
	f.current.Path = path
	if symbol != "" {
		f.current.Symbol = symbol
	}
	return nil
}

func (f *compareFlags) compare(c console.Console, named bool) error {
	header := evidence.Header{Schema: driftcompare.Schema, Git: console.Revision()}
	var scorer model.Scorer
	if f.model != "" {
		a, err := model.OpenRegistry(f.models).Load(f.model)
		if err != nil {
			return console.WithHint(err, "greenlight train makes models; --models names their folder")
		}
		if named && a.Schema.Name != f.schema {
			return console.Usagef("model %s takes schema %s, and --schema is %s", f.model, a.Schema.Name, f.schema)
		}
		f.schema = a.Schema.Name
		scorer, header.Model = a.Scorer, &evidence.Model{Version: a.Manifest.Version, Digest: a.Digest()}
	}
	schema, ok := feature.Lookup(f.schema)
	if !ok {
		return console.Usagef("unknown feature schema %q", f.schema)
	}
	reference, current, err := f.sets(c, schema, scorer)
	if err != nil {
		return err
	}
	r, err := driftcompare.Compare(reference, current, f.options)
	if err != nil {
		return err
	}
	if err := sayDrift(c, &r.Report); err != nil {
		return err
	}
	for _, line := range []struct{ head, text string }{{"weeks", r.Rolling()}, {"apart", r.Apart()}} {
		if line.text != "" {
			c.Say("%-9s %s", line.head, line.text)
		}
	}
	bad, reasons := r.DataVerdict()
	for _, reason := range reasons {
		c.Say("data      %s", reason)
	}
	header.Source, header.Inputs = driftcompare.Source(reference, current), driftcompare.Inputs(reference, current)
	if err := keepDrift(c, f.evidence, driftcompare.File, header.Source, func(store *evidence.Store) (int, error) {
		return r.Write(store, header)
	}); err != nil {
		return err
	}
	return gated(f.check, gate.Worst(r.Verdict, bad))
}

// sets reads the two sets.
func (f *compareFlags) sets(c console.Console, schema *feature.Schema, scorer model.Scorer) (reference, current *driftcompare.Set, err error) {
	if reference, err = flags.ReadSet(c, &f.reference, schema, scorer); err != nil {
		return nil, nil, err
	}
	if f.current.Path == "" {
		reference, current = reference.Split(f.referenceDays)
	} else if current, err = flags.ReadSet(c, &f.current, schema, scorer); err != nil {
		return nil, nil, err
	}
	if f.currentDays > 0 {
		current, _ = current.Split(f.currentDays)
	}
	return reference, current, nil
}
