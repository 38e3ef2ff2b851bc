package flags

import (
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rows"
)

// Recent has the flags for the classifier of the daily report. Without a log there is no classifier.
type Recent struct {
	recent    driftcompare.Recent
	reference Data
	schema    string
}

// Declare declares the flags.
func (n *Recent) Declare(fs *pflag.FlagSet) {
	n.recent.Options = twosample.DefaultOptions()
	fs.StringVar(&n.recent.Log.Dir, "feature-log", "", "the executor's feature log; for the report, a classifier compares its last 7 days with --reference")
	fs.StringVar(&n.reference.Path, "reference", "", "file or folder of market data, or folder of a feature log")
	fs.StringVar(&n.reference.Symbol, "symbol", "", "instrument of both, if there are several")
	fs.StringVar(&n.schema, "schema", feature.DefaultSchema, "feature schema to compare by")
	n.reference.OffsetSet = func() bool { return false }
}

// Validate checks the values.
func (n *Recent) Validate() error {
	if (n.recent.Log.Dir == "") != (n.reference.Path == "") {
		return console.Usagef("give both --feature-log and --reference: the current rows, and what to compare them with")
	}
	if rows.IsURL(n.recent.Log.Dir) || rows.IsURL(n.reference.Path) {
		return console.Usagef("--feature-log and --reference must be folders here: copy the dataset, or use greenlight drift compare")
	}
	if _, ok := feature.Lookup(n.schema); !ok && n.schema != "" {
		return console.Usagef("unknown feature schema %q", n.schema)
	}
	return nil
}

// Classifier returns nil if there is no log.
func (n *Recent) Classifier(c console.Console) func(report.Period) (*twosample.Result, []evidence.Input) {
	if n.recent.Log.Dir == "" {
		return nil
	}
	r := n.recent
	r.Symbol = n.reference.Symbol
	r.Schema, _ = feature.Lookup(n.schema)
	r.Reference = func() (*driftcompare.Set, error) { return ReadSet(c, &n.reference, r.Schema, nil) }
	return func(p report.Period) (*twosample.Result, []evidence.Input) { return r.Classify(p.End) }
}
