package experiment

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// The evidence schemas of offline reports and evaluations. The v1 schemas have no data quality, and are judged only by AUC and
// P@20.
const (
	OfflineSchema   = "greenlight/offline_report/v2"
	OfflineSchemaV1 = "greenlight/offline_report/v1"
	EvalSchema      = "greenlight/eval_result/v2"
	EvalSchemaV1    = "greenlight/eval_result/v1"
)

// IsOffline reports whether a file of the schema is an offline report.
func IsOffline(schema string) bool { return schema == OfflineSchema || schema == OfflineSchemaV1 }

// OfflineReport is the body of offline_report.json: the out-of-time evaluation of a candidate.
type OfflineReport struct {
	Version string `json:"version"`
	// Timestamp is the creation time of the report, in Unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	*eval.Report
	// TestDays is the number of UTC days with test rows.
	TestDays int `json:"test_days"`
	// InSample is the reason why the model may have been trained on the test rows; empty if it was not.
	InSample string `json:"may_be_in_sample,omitempty"`
	// Label is the rule of the built-in label, if it is not the default.
	Label *label.Rule `json:"label,omitempty"`
	// TableInfo describes the data if it is a table of a desk's own features and labels.
	TableInfo *TableInfo `json:"table,omitempty"`
	// Quality is the quality of market data; nil for a table, and in a report of v1.
	Quality       *DataQuality `json:"data_quality,omitempty"`
	FeatureSchema string       `json:"feature_schema"`
	DatasetDigest string       `json:"dataset_digest"`
	Dataset       DatasetInfo  `json:"dataset"`
	Split         SplitInfo    `json:"split"`
	// QualityPlan is the plan of a live verdict against the baseline; nil for an imported model and in older reports.
	QualityPlan *QualityPlan `json:"quality_plan,omitempty"`
	// Compared has all models of the study, judged on the same rows, with the baseline first.
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
	// Taken lists what was guessed about the files.
	Taken []string `json:"taken,omitempty"`
}

// SplitInfo describes the walk-forward split, in UTC days that have rows.
type SplitInfo struct {
	TrainDays int `json:"train_days"`
	TestDays  int `json:"test_days"`
	StepDays  int `json:"step_days"`
	PurgeRows int `json:"purge_rows"`
	// PurgeMinutes is how long before a test the training rows of a table end; 0 for market data.
	PurgeMinutes float64 `json:"purge_minutes,omitempty"`
	Folds        int     `json:"folds"`
}

// ComparedModel is one model of the comparison.
type ComparedModel struct {
	Version       string  `json:"version"`
	AUC           float64 `json:"auc"`
	PrecisionAt20 float64 `json:"precision_at_20"`
	// BaselineMatch is the fraction of rows within 0.05 of the baseline, in [0,1].
	BaselineMatch float64 `json:"baseline_match_rate"`
}

// Offline builds the report of the candidate.
func (s *Study) Offline(c *Candidate, now time.Time) (*OfflineReport, error) {
	theirs, _ := s.Baseline.Pooled()
	measured, err := eval.Measure(theirs)
	if err != nil {
		return nil, fmt.Errorf("evaluate the baseline: %w", err)
	}
	ours, _ := c.Pooled()
	r := s.report(c.Version, c.Schema, c.Report, ours.Days, now)
	pair, err := s.Pair(c.Result, s.Baseline)
	if err != nil {
		return nil, err
	}
	r.QualityPlan = pair.Plan()
	r.Compared = []ComparedModel{{BaselineVersion, measured.AUC, measured.PrecisionAt20, 1}}
	for _, o := range s.Candidates {
		r.Compared = append(r.Compared, ComparedModel{o.Version, o.Report.AUC, o.Report.PrecisionAt20, o.BaselineMatch})
	}
	return r, nil
}

// report builds the part that the reports on candidates and on foreign models have in common. days are the days of the test
// rows.
func (s *Study) report(version string, schema *feature.Schema, measured *eval.Report, days []int, now time.Time) *OfflineReport {
	r := &OfflineReport{
		Version: version, Timestamp: now.UnixMilli(), Report: measured,
		TestDays:      distinct(days),
		FeatureSchema: schema.Name, DatasetDigest: s.Data.Digest(),
		Dataset: DatasetInfo{
			Name: s.Data.Name, Symbol: s.Data.Symbol, Simulated: s.Data.Simulated, Bars: len(s.Data.Bars),
			Dropped: s.Data.Dropped, Taken: s.Data.Taken,
		},
		Split: SplitInfo{
			TrainDays: s.Split.TrainDays, TestDays: s.Split.TestDays, StepDays: s.Split.StepDays,
			PurgeRows: s.Split.Purge, Folds: len(measured.Folds),
		},
	}
	var first, last int64
	if t := s.Data.Table; t != nil {
		r.TableInfo, r.Split.PurgeRows, r.Split.PurgeMinutes = &t.Info, 0, t.Info.HorizonMinutes
		first, last = t.End(0), t.End(t.Len()-1)
	} else {
		r.Quality = NewDataQuality(s.Data.Quality)
		if s.Label != label.Default() {
			r.Label = &s.Label
		}
		first, last = s.Data.Bars[0].End(), s.Data.Bars[len(s.Data.Bars)-1].End()
	}
	r.Dataset.First, r.Dataset.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
	return r
}

// distinct returns the number of different days.
func distinct(days []int) int { return len(slices.Compact(slices.Sorted(slices.Values(days)))) }

// Evaluated returns the candidate's artifact, which contains its evaluation, and the evaluation.
func (s *Study) Evaluated(c *Candidate, git string, now time.Time) (*model.Artifact, *OfflineReport, error) {
	r, err := s.Offline(c, now)
	if err != nil {
		return nil, nil, err
	}
	a, err := s.Artifact(c, git)
	if err != nil {
		return nil, nil, err
	}
	return a, r, s.own(a, r)
}

// own stores the report with its evidence header in the artifact.
func (s *Study) own(a *model.Artifact, r *OfflineReport) error {
	if err := a.Identify(); err != nil {
		return err
	}
	var err error
	a.Offline, err = evidence.Document(s.OfflineHeader(a, r), r)
	return err
}

// OfflineHeader returns the evidence header of the report. It is the same in the artifact and in the evidence folder.
func (s *Study) OfflineHeader(a *model.Artifact, r *OfflineReport) evidence.Header {
	h := s.Header(OfflineSchema, a)
	h.CreatedTime = time.UnixMilli(r.Timestamp)
	return h
}

// Header returns the evidence header of a file about the model that is computed from the study's data.
func (s *Study) Header(schema string, a *model.Artifact) evidence.Header {
	return s.Data.Header(schema, a, a.Manifest.Training.Git)
}

// Models returns the comparison of the models as a table.
func (r *OfflineReport) Models() *table.Table {
	t := table.New("model", ">AUC", ">P@20", ">within 0.05 of the baseline")
	for _, m := range r.Compared {
		t.Row(m.Version, fmt.Sprintf("%.3f", m.AUC), fmt.Sprintf("%.3f", m.PrecisionAt20), fmt.Sprintf("%.1f %%", 100*m.BaselineMatch))
	}
	return t
}

// Table writes the comparison of the models, and the figures of the candidate, as text.
func (r *OfflineReport) Table(w io.Writer) error {
	if err := r.Models().Text(w); err != nil {
		return err
	}
	if ci := r.Intervals; ci != nil {
		_, err := fmt.Fprintf(w, "%s: AUC %.3f (%.3f to %.3f), P@20 %.3f (%.3f to %.3f), base rate %.3f, lift %.2f, n %d in %s\n",
			r.Version, r.AUC, ci.AUC.Low, ci.AUC.High, r.PrecisionAt20, ci.PrecisionAt20.Low, ci.PrecisionAt20.High,
			r.BaseRate, r.Lift, r.N, text.Count(r.Split.Folds, "fold"))
		return err
	}
	_, err := fmt.Fprintf(w, "%s: AUC %.3f, P@20 %.3f, base rate %.3f, lift %.2f, n %d in %s (too few days for intervals)\n",
		r.Version, r.AUC, r.PrecisionAt20, r.BaseRate, r.Lift, r.N, text.Count(r.Split.Folds, "fold"))
	return err
}

// Observations returns AUC and P@20.
func (r *OfflineReport) Observations() map[string]gate.Observation {
	auc := gate.Measured(r.AUC, uint64(r.N))
	precision := gate.Measured(r.PrecisionAt20, uint64(r.N))
	if ci := r.Intervals; ci != nil {
		auc.Bounds = &gate.Bounds{Low: ci.AUC.Low, High: ci.AUC.High}
		precision.Bounds = &gate.Bounds{Low: ci.PrecisionAt20.Low, High: ci.PrecisionAt20.High}
	}
	return map[string]gate.Observation{gate.AUC: auc, gate.PrecisionAt20: precision}
}

// evidence returns the observations about the amount of data behind the figures.
func (r *OfflineReport) evidence() map[string]gate.Observation {
	known := 1.0
	if r.InSample != "" {
		known = 0
	}
	seen := map[string]gate.Observation{
		gate.TestDays: gate.Measured(float64(r.TestDays), uint64(r.TestDays)), gate.OutOfTime: gate.Measured(known, 1),
		gate.AUCLow: {}, gate.PrecisionLift: {}, // too few days
	}
	if ci := r.Intervals; ci != nil {
		days := uint64(ci.Days)
		if r.TestDays == 0 { // a report of v1
			seen[gate.TestDays] = gate.Measured(float64(days), days)
		}
		seen[gate.AUCLow] = gate.Measured(ci.AUC.Low, days)
		seen[gate.PrecisionLift] = gate.Measured(ci.PrecisionAt20.Low/r.BaseRate, days)
	}
	return seen
}
