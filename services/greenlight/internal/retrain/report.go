package retrain

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// The evidence schemas of a retrain report. Reports of v1 and v2 have the bands of [drift.StatusOfV1]. A report of v1 is
// judged only by AUC and P@20.
const (
	ReportSchema   = "greenlight/retrain_report/v3"
	ReportSchemaV2 = "greenlight/retrain_report/v2"
	ReportSchemaV1 = "greenlight/retrain_report/v1"
)

// Report is the body of retrain_report.json.
type Report struct {
	// Version is the version of the candidate, Registered its name in the registry.
	Version    string `json:"version"`
	Registered string `json:"registered"`
	// Timestamp is the creation time of the report, in Unix milliseconds.
	Timestamp int64 `json:"timestamp"`
	// Result is the verdict of the offline gate, Checks are its figures.
	Result gate.Verdict  `json:"result"`
	Checks []gate.Result `json:"checks"`
	// WindowDays is the requested number of newest days; 0 means all.
	WindowDays    int   `json:"window_days"`
	Preconditions Facts `json:"preconditions"`
	// Log is null if the data came from market files.
	Log        *Log                      `json:"feature_log"`
	Validation *Validation               `json:"validation"`
	Evaluation *experiment.OfflineReport `json:"evaluation"`
	Drift      *Holdout                  `json:"drift"`
	// Figures are files of the evidence folder.
	Figures []string `json:"figures"`
}

// FeatureTable has the health and drift of every feature. Features of the candidate have a star.
func (r *Report) FeatureTable() *table.Table {
	t := table.New("feature", ">ADF p", ">missing", ">PSI halves", ">PSI 7 d", ">null 99 %", "status")
	week, measured := r.Drift.Window(testDays)
	for _, h := range r.Validation.Features {
		name, adf, halves, psi, q99, status := h.Feature, "-", "-", "-", "-", h.Status()
		if h.InCandidate {
			name += " *"
		}
		if h.ADF != nil {
			adf = decimals(h.ADF.PValue)
		}
		if h.Halves != nil {
			halves = decimals(h.Halves.PSI)
		}
		if m, ok := week.Feature(h.Feature); measured && ok {
			psi, q99 = decimals(m.PSI), decimals(m.Q99)
			if verdict, _ := drift.Judge(m.PSI, drift.DefaultLimits().Feature, m.Q99); verdict == gate.Fail {
				status = strings.TrimPrefix(status+", drifts", "ok, ")
			}
		}
		t.Row(name, adf, fmt.Sprintf("%.1f %%", 100*h.Missing), halves, psi, q99, status)
	}
	return t
}

// stableFolds heads the column of [HoldoutSet.Stable].
func stableFolds() string { return fmt.Sprintf("folds < %v", drift.DefaultLimits().Overall) }

func decimals(v float64) string { return fmt.Sprintf("%.3f", v) }

// DriftTable has the medians of the feature sets and of the raw price.
func (r *Report) DriftTable() *table.Table {
	t := table.New("PSI on the holdout", "folds", "median", "null 99 %", stableFolds())
	for _, window := range r.Drift.Windows {
		if window.Folds == 0 {
			t.Row(fmt.Sprintf("%d days", window.Days), 0, "-", "-", "no fold has so many test days")
		}
		row := func(name string, m HoldoutMedian, stable string) {
			t.Row(fmt.Sprintf("%s, %d days", name, window.Days), window.Folds, decimals(m.PSI), decimals(m.Q99), stable)
		}
		if mid, ok := window.Feature("mid"); ok {
			row("raw mid", mid, "")
		}
		for _, s := range window.Sets {
			row(s.Set+" overall", s.Overall, fmt.Sprintf("%.0f %%", 100*s.Stable))
		}
	}
	return t
}
