package retrain

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// The evidence schemas of a retrain report. A report of v1 is judged only by AUC and P@20.
const (
	ReportSchema   = "greenlight/retrain_report/v2"
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

// line is the row of a feature in the tables.
type line struct {
	feature, adf, missing, halves, psi, q99, status string
}

var lineHeads = line{"feature", "ADF p", "missing", "PSI halves", "PSI 7 d", "null 99 %", "status"}

func (l line) cells() []any {
	return []any{l.feature, l.adf, l.missing, l.halves, l.psi, l.q99, l.status}
}

// lines returns a row per feature. Features of the candidate have a star.
func (r *Report) lines() []line {
	week, measured := r.Drift.Window(testDays)
	lines := make([]line, 0, len(r.Validation.Features))
	for _, h := range r.Validation.Features {
		l := line{feature: h.Feature, adf: "-", missing: fmt.Sprintf("%.1f %%", 100*h.Missing), halves: "-", psi: "-", q99: "-", status: h.Status()}
		if h.InCandidate {
			l.feature += " *"
		}
		if h.ADF != nil {
			l.adf = fmt.Sprintf("%.3f", h.ADF.PValue)
		}
		if h.Halves != nil {
			l.halves = fmt.Sprintf("%.3f", h.Halves.PSI)
		}
		if m, ok := week.Feature(h.Feature); measured && ok {
			l.psi, l.q99 = fmt.Sprintf("%.3f", m.PSI), fmt.Sprintf("%.3f", m.Q99)
			if verdict, _ := drift.Judge(m.PSI, drift.DefaultLimits().Feature, m.Q99); verdict == gate.Fail {
				l.status = strings.TrimPrefix(l.status+", drifts", "ok, ")
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// FeatureTable writes the health and drift of every feature as aligned text.
func (r *Report) FeatureTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range append([]line{lineHeads}, r.lines()...) {
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.cells()...)
	}
	return tw.Flush()
}

// DriftTable writes the medians of the feature sets as aligned text.
func (r *Report) DriftTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "PSI on the holdout\tfolds\tmedian\tnull 99 %\tfolds < 0.2")
	for _, window := range r.Drift.Windows {
		if window.Folds == 0 {
			_, _ = fmt.Fprintf(tw, "%d days\t0\t-\t-\tno fold has so many test days\n", window.Days)
		}
		row := func(name string, m HoldoutMedian, stable string) {
			_, _ = fmt.Fprintf(tw, "%s, %d days\t%d\t%.3f\t%.3f\t%s\n", name, window.Days, window.Folds, m.PSI, m.Q99, stable)
		}
		if mid, ok := window.Feature("mid"); ok {
			row("raw mid", mid, "")
		}
		for _, s := range window.Sets {
			row(s.Set+" overall", s.Overall, fmt.Sprintf("%.0f %%", 100*s.Stable))
		}
	}
	return tw.Flush()
}
