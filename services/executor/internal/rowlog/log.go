// Package rowlog writes a row of the feature log for every request that the dispatcher settles.
package rowlog

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Baseline is the scorer that decided.
type Baseline struct {
	Version, Digest string
	// Inputs are the features that it takes. Every scored state has at least these.
	Inputs *feature.Schema
}

// Log writes the rows. A nil Log is off.
type Log struct {
	files    *featurelog.Logger
	baseline Baseline
	// known are the schemas of models. layouts has the layout of each schema that a row had.
	known   *feature.Known
	layouts sync.Map // *feature.Schema to *featurelog.Schema
	logger  *slog.Logger
}

// Open starts a log of rows of the known schemas. The options need a Logger.
func Open(opts featurelog.Options, baseline Baseline, known *feature.Known) (*Log, error) {
	l := &Log{baseline: baseline, known: known, logger: opts.Logger}
	layout, err := featurelog.NewSchema(baseline.Inputs)
	if err != nil {
		return nil, err
	}
	l.layouts.Store(baseline.Inputs, layout)
	if l.files, err = featurelog.Open(opts); err != nil {
		return nil, err
	}
	return l, nil
}

// Settled logs a request and its result. It never waits for the disk: if the buffer is full, the row is dropped and counted.
func (l *Log) Settled(req shadow.Request, r shadow.Result) {
	schema, values := l.stateOf(req.State, r.Schema)
	row := featurelog.Row{
		RequestID: req.ID, Symbol: req.Symbol, EventTime: req.EventTime, ArrivalTime: req.Arrival,
		Schema: l.layoutOf(schema), Features: values,
		BaselineScore: req.Baseline, BaselineVersion: l.baseline.Version, BaselineDigest: l.baseline.Digest,
		Outcome: r.Outcome.String(), ModelVersion: r.Version, ModelDigest: r.Digest,
		Source: req.Source.String(), Mid: input(req.State, "mid"), SpreadBP: input(req.State, "spread_bp"),
	}
	if r.Outcome.Compared() {
		row.ShadowScore = featurelog.Some(r.Score)
	}
	if r.Outcome.Compared() || r.Outcome.Failed() {
		row.ShadowLatencyMS = featurelog.Some(telemetry.Milliseconds(r.Latency))
	}
	if req.Gated != nil {
		row.Decision = decisionOf(req.Gated.Decision())
	}
	l.files.Log(row)
}

// decisionOf returns the columns for a decision behind a gate.
func decisionOf(d decide.Decision, revision uint64) featurelog.Decision {
	by := "baseline"
	if d.ByModel() {
		by = "model"
	}
	return featurelog.Decision{By: by, Reason: d.Reason.String(), Score: featurelog.Some(d.Score), Revision: revision}
}

// layoutOf returns the layout of the rows of the schema.
func (l *Log) layoutOf(s *feature.Schema) *featurelog.Schema {
	if known, ok := l.layouts.Load(s); ok {
		return known.(*featurelog.Schema) //nolint:forcetypeassert // nothing else is stored
	}
	layout, err := featurelog.NewSchema(s)
	if err != nil { // impossible for a schema that feature accepts: see feature.CheckName
		l.logger.Error("rows of the schema are not logged", "schema", s.Name, "error", err)
		return l.layoutOf(l.baseline.Inputs) // the row does not fit it, and counts as invalid
	}
	actual, _ := l.layouts.LoadOrStore(s, layout)
	return actual.(*featurelog.Schema) //nolint:forcetypeassert // nothing else is stored
}

// input returns a raw input of the state, absent if it is unknown.
func input(s shadow.State, name string) featurelog.Optional {
	x, ok := s.Value(name)
	return featurelog.Optional{Value: x, Present: ok}
}

// stateOf returns the state for the log. It uses the schema of the model under trial, so that the row has exactly the scored
// values. If the model is unknown or the state lacks features, it uses the newest schema that the state has, or else the
// inputs of the baseline.
func (l *Log) stateOf(s shadow.State, trial *feature.Schema) (*feature.Schema, []float64) {
	if trial != nil {
		if values, ok := s.Project(trial); ok {
			return trial, values
		}
	}
	for _, schema := range slices.Backward(l.known.All()) {
		if schema == trial {
			continue
		}
		if values, ok := s.Project(schema); ok {
			return schema, values
		}
	}
	values, _ := s.Project(l.baseline.Inputs) // if it lacks values, the row has nulls; the baseline would not have scored it
	return l.baseline.Inputs, values
}

// Stats returns the counts so far, all 0 if the log is off.
func (l *Log) Stats() featurelog.Stats {
	if l == nil {
		return featurelog.Stats{}
	}
	return l.files.Stats()
}

// Trouble describes a failing log. It is empty if the log is written or off.
func (l *Log) Trouble() string {
	if l.Stats().Failing() {
		return "the feature log is not written"
	}
	return ""
}

// Close writes pending rows. Later rows are dropped.
func (l *Log) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.files.Close(ctx)
}
