package cli

import (
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// nightlyFlags configure the classifier of the daily report. There is none without a log.
type nightlyFlags struct {
	recent    driftcompare.Recent
	reference DataFlags
	schema    string
}

func (n *nightlyFlags) declare(fs *pflag.FlagSet) {
	n.recent.Options = twosample.DefaultOptions()
	fs.StringVar(&n.recent.Log, "feature-log", "", "feature log of executor whose last 7 days a classifier tries to tell from --reference, beside the report")
	fs.StringVar(&n.reference.Path, "reference", "", "file or folder of market data, or folder of a feature log")
	fs.StringVar(&n.reference.symbol, "symbol", "", "instrument of both, where there are several")
	fs.StringVar(&n.schema, "schema", feature.DefaultSchema, "feature schema to compare by")
	n.reference.offsetSet = func() bool { return false }
}

func (n *nightlyFlags) validate() error {
	if (n.recent.Log == "") != (n.reference.Path == "") {
		return console.Usagef("--feature-log and --reference go together: the present, and what to compare it with")
	}
	if _, ok := feature.Lookup(n.schema); !ok {
		return console.Usagef("unknown feature schema %q", n.schema)
	}
	return nil
}

// classifier returns nil if there is no log.
func (n *nightlyFlags) classifier(c console.Console) func(report.Period) (*twosample.Result, []evidence.Input) {
	if n.recent.Log == "" {
		return nil
	}
	r := n.recent
	r.Symbol = n.reference.symbol
	r.Schema, _ = feature.Lookup(n.schema)
	r.Reference = func() (*driftcompare.Set, error) { return readSet(c, &n.reference, r.Schema, nil) }
	return func(p report.Period) (*twosample.Result, []evidence.Input) { return r.Classify(p.End) }
}
