package driftcompare

import (
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
)

// recentDays is how many days [Recent] compares. It is the window of the PSI in the same report.
const recentDays = 7

// Recent compares the newest days of a feature log with a reference.
type Recent struct {
	// Reference reads the reference, with Schema.
	Reference func() (*Set, error)
	// Log is the feature log, Symbol an instrument in it, which may be empty if there is only one.
	Log     featurelog.Log
	Symbol  string
	Schema  *feature.Schema
	Options twosample.Options
}

// Classify compares the 7 days before end with the reference, and returns the files that it read. If a set cannot be read, the
// verdict is ERROR and has the reason.
func (r Recent) Classify(end time.Time) (*twosample.Result, []evidence.Input) {
	failed := func(err error) *twosample.Result {
		return &twosample.Result{LeansOn: []twosample.Weight{}, Verdict: gate.Error, Reason: err.Error()}
	}
	reference, err := r.Reference()
	if err != nil {
		return failed(err), nil
	}
	current, err := FromLogBetween(r.Log, r.Symbol, r.Schema, nil, end.AddDate(0, 0, -recentDays), end)
	if err != nil {
		return failed(err), reference.Inputs
	}
	result, err := Classify(reference, current, r.Options)
	if err != nil {
		result = failed(err)
	}
	return result, Inputs(reference, current)
}
