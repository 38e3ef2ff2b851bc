package study

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// OfflineSchema and EvalSchema name the kinds of evidence.
const (
	OfflineSchema = "greenlight/offline_report/v1"
	EvalSchema    = "greenlight/eval_result/v1"
)

// OfflineReport is the body of offline_report.json: how a candidate did out of time.
type OfflineReport struct {
	Version string `json:"version"`
	// Timestamp is when the report was made, in Unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	*eval.Report
	FeatureSchema string      `json:"feature_schema"`
	DatasetDigest string      `json:"dataset_digest"`
	Dataset       DatasetInfo `json:"dataset"`
	Split         SplitInfo   `json:"split"`
	// Compared are all models of the study on the same rows, the baseline first.
	Compared []ComparedModel `json:"compared"`
}

// DatasetInfo describes the data.
type DatasetInfo struct {
	Name      string         `json:"name"`
	Symbol    string         `json:"symbol"`
	Simulated bool           `json:"simulated"`
	Bars      int            `json:"bars"`
	First     time.Time      `json:"first"`
	Last      time.Time      `json:"last"`
	Dropped   map[string]int `json:"dropped,omitempty"`
}

// SplitInfo describes the walk-forward split, in UTC days that have rows.
type SplitInfo struct {
	TrainDays int `json:"train_days"`
	TestDays  int `json:"test_days"`
	StepDays  int `json:"step_days"`
	PurgeRows int `json:"purge_rows"`
	Folds     int `json:"folds"`
}

// ComparedModel is one model of the comparison.
type ComparedModel struct {
	Version       string  `json:"version"`
	AUC           float64 `json:"auc"`
	PrecisionAt20 float64 `json:"precision_at_20"`
	// BaselineMatch is the share of rows within 0.05 of the baseline, in [0,1].
	BaselineMatch float64 `json:"baseline_match_rate"`
}

// Offline makes the report of the candidate.
func (s *Study) Offline(c *Candidate, now time.Time) (*OfflineReport, error) {
	theirs, _ := s.Baseline.Pooled()
	measured, err := eval.Measure(theirs)
	if err != nil {
		return nil, fmt.Errorf("evaluate the baseline: %w", err)
	}
	bars := s.Data.Bars
	r := &OfflineReport{
		Version: c.Version, Timestamp: now.UnixMilli(), Report: c.Report,
		FeatureSchema: c.Schema.Name, DatasetDigest: s.Data.Digest(),
		Dataset: DatasetInfo{
			Name: s.Data.Name, Symbol: s.Data.Symbol, Simulated: s.Data.Simulated, Bars: len(bars),
			First: time.UnixMilli(bars[0].End()).UTC(), Last: time.UnixMilli(bars[len(bars)-1].End()).UTC(),
			Dropped: s.Data.Dropped,
		},
		Split: SplitInfo{
			TrainDays: s.Split.TrainDays, TestDays: s.Split.TestDays, StepDays: s.Split.StepDays,
			PurgeRows: s.Split.Purge, Folds: len(c.Folds),
		},
		Compared: []ComparedModel{{BaselineVersion, measured.AUC, measured.PrecisionAt20, 1}},
	}
	for _, o := range s.Candidates {
		r.Compared = append(r.Compared, ComparedModel{o.Version, o.Report.AUC, o.Report.PrecisionAt20, o.BaselineMatch})
	}
	return r, nil
}

// Header is the evidence header of a file about the model, made from the study's data.
func (s *Study) Header(schema string, a *model.Artifact) evidence.Header {
	return evidence.Header{
		Schema: schema, Source: s.Data.Source(), Inputs: s.Data.Inputs(),
		Model: &evidence.Model{Version: a.Manifest.Version, Digest: a.Digest()}, Git: a.Manifest.Training.Git,
	}
}

// Table writes the comparison for people.
func (r *OfflineReport) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "model\tAUC\tP@20\twithin 0.05 of the baseline")
	for _, m := range r.Compared {
		_, _ = fmt.Fprintf(tw, "%s\t%.3f\t%.3f\t%.1f %%\n", m.Version, m.AUC, m.PrecisionAt20, 100*m.BaselineMatch)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if ci := r.Intervals; ci != nil {
		_, err := fmt.Fprintf(w, "%s: AUC %.3f (%.3f to %.3f), P@20 %.3f (%.3f to %.3f), base rate %.3f, lift %.2f, n %d in %d folds\n",
			r.Version, r.AUC, ci.AUC.Low, ci.AUC.High, r.PrecisionAt20, ci.PrecisionAt20.Low, ci.PrecisionAt20.High,
			r.BaseRate, r.Lift, r.N, r.Split.Folds)
		return err
	}
	_, err := fmt.Fprintf(w, "%s: AUC %.3f, P@20 %.3f, base rate %.3f, lift %.2f, n %d in %d folds (too few days for intervals)\n",
		r.Version, r.AUC, r.PrecisionAt20, r.BaseRate, r.Lift, r.N, r.Split.Folds)
	return err
}

// Observations are what the offline gate judges.
func (r *OfflineReport) Observations() map[string]gate.Observation {
	auc := gate.Measured(r.AUC, uint64(r.N))
	precision := gate.Measured(r.PrecisionAt20, uint64(r.N))
	if ci := r.Intervals; ci != nil {
		auc.Bounds = &gate.Bounds{Low: ci.AUC.Low, High: ci.AUC.High}
		precision.Bounds = &gate.Bounds{Low: ci.PrecisionAt20.Low, High: ci.PrecisionAt20.High}
	}
	return map[string]gate.Observation{gate.AUC: auc, gate.PrecisionAt20: precision}
}
