package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// classifiedDays is how many days a nightly classifier looks at: the window of the index that it stands beside.
const classifiedDays = 7

// nightlyFlags say what a classifier is asked about every night; nothing when there is no log.
type nightlyFlags struct {
	log       string
	reference DataFlags
	schema    string
	options   twosample.Options
}

func (n *nightlyFlags) declare(fs *pflag.FlagSet) {
	n.options = twosample.DefaultOptions()
	fs.StringVar(&n.log, "feature-log", "", "feature log of executor whose last 7 days a classifier tries to tell from --reference, beside the report")
	fs.StringVar(&n.reference.Path, "reference", "", "file or folder of market data, or folder of a feature log")
	fs.StringVar(&n.reference.symbol, "symbol", "", "instrument of both, where there are several")
	fs.StringVar(&n.schema, "schema", feature.DefaultSchema, "feature schema to compare by")
	n.reference.offsetSet = func() bool { return false }
}

func (n *nightlyFlags) validate() error {
	if (n.log == "") != (n.reference.Path == "") {
		return usageError{errors.New("--feature-log and --reference go together: the present, and what to compare it with")}
	}
	if _, ok := feature.Lookup(n.schema); !ok {
		return usageError{fmt.Errorf("unknown feature schema %q", n.schema)}
	}
	return nil
}

// classifier is nil when there is nothing to ask about. What cannot be read is an ERROR of the result, with the reason.
func (n *nightlyFlags) classifier(c Console) func(report.Period) (*twosample.Result, []evidence.Input) {
	if n.log == "" {
		return nil
	}
	return func(p report.Period) (*twosample.Result, []evidence.Input) {
		r, inputs, err := n.classify(c, p)
		if err != nil {
			return &twosample.Result{LeansOn: []twosample.Weight{}, Verdict: gate.Error, Reason: err.Error()}, inputs
		}
		return r, inputs
	}
}

func (n *nightlyFlags) classify(c Console, p report.Period) (*twosample.Result, []evidence.Input, error) {
	schema, _ := feature.Lookup(n.schema)
	reference, err := readSet(c, &n.reference, schema, nil)
	if err != nil {
		return nil, nil, err
	}
	current, err := driftcompare.FromLogBetween(n.log, n.reference.symbol, schema, nil, p.End.AddDate(0, 0, -classifiedDays), p.End)
	if err != nil {
		return nil, reference.Inputs, err
	}
	r, err := driftcompare.Classify(reference, current, n.options)
	return r, driftcompare.Inputs(reference, current), err
}
