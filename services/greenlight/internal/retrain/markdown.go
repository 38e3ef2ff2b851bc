package retrain

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/figure"
)

// Markdown returns retrain_report.md: the report for people, with its figures.
func (r *Report) Markdown(source evidence.Source, figures []figure.Figure) ([]byte, error) {
	var b strings.Builder
	e := r.Evaluation
	fmt.Fprintf(&b, "# Retrain report: %s\n\n", r.Registered)
	if source == evidence.Simulated {
		b.WriteString("**SIMULATED data: these figures show that the pipeline works. They say nothing about any market.**\n\n")
	}
	fmt.Fprintf(&b, "Offline gate: **%s**. Source: %s. Data: %s, %s bars, %s to %s (UTC).\n\n", r.Result, source, e.Dataset.Symbol,
		fmt.Sprint(e.Dataset.Bars), stamp(e.Dataset.First), stamp(e.Dataset.Last))

	p := r.Preconditions
	b.WriteString("## Data\n\n")
	limits := table.New("precondition", ">found", ">limit")
	limits.Row("days with usable rows", p.Days, fmt.Sprintf(">= %d", p.MinDays))
	limits.Row(fmt.Sprintf("positive rows, of %d", p.Rows), p.Positives, fmt.Sprintf(">= %d", p.MinPositives))
	limits.Row("longest gap, days", fmt.Sprintf("%.2f", p.LongestGapHours/24), fmt.Sprintf("<= %.2f", p.MaxGapHours/24))
	markdown(&b, limits)
	if q := p.Quality; q != nil {
		b.WriteString("Frozen stretches count as missing data. Quality of the data in the window:\n\n")
		if err := q.Card().Markdown(&b); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "\nThe longest flat run is %s", experiment.Length(q.LongestFlatRun.Minutes))
		if q.FrozenMinutes > 0 {
			fmt.Fprintf(&b, "; %d frozen minutes (%.2f %%) are skipped", q.FrozenMinutes, 100*q.FrozenShare)
		}
		b.WriteString(".\n\n")
	}
	if p.LongestGapHours > 0 {
		fmt.Fprintf(&b, "The longest gap is from %s to %s.\n\n", stamp(p.LongestGap.From), stamp(p.LongestGap.To))
	}
	if l := r.Log; l != nil {
		fmt.Fprintf(&b, "From a feature log, days of arrival %s to %s: %d rows, %d minutes. Label: %s.\n\n", l.FirstDate, l.LastDate, l.Rows, l.Used, l.Label)
	}

	v := r.Validation
	b.WriteString("## Features\n\n")
	markdown(&b, r.FeatureTable())
	fmt.Fprintf(&b, "Features with a star belong to the candidate. ADF uses every %d-th row; a p-value below %.2f rejects a unit root. PSI halves "+
		"compares the first %d days of the window with the last %d. PSI 7 d compares the week after training with the training days, as a "+
		"median over folds. Null 99 %% is its 99 %% quantile without drift. A feature shifts (between the halves) or drifts (from training to "+
		"holdout) if its PSI is above %v and above its null quantile.\n\n", v.Thinning, unitRoot, v.FirstHalfDays, v.SecondHalfDays, drift.DefaultLimits().Feature)
	r.correlations(&b)

	b.WriteString("## Out-of-time evaluation\n\n")
	if err := (gate.Scorecard{Results: r.Checks}).Markdown(&b); err != nil {
		return nil, err
	}
	b.WriteString("\n")
	markdown(&b, e.Models())
	fmt.Fprintf(&b, "All models were tested on the same %d rows of %d folds; base rate %.3f, lift %.2f.\n\n", e.N, e.Split.Folds, e.BaseRate, e.Lift)

	r.drift(&b)
	b.WriteString("## Figures\n\n")
	for _, f := range figures {
		fmt.Fprintf(&b, "![%s](%s)\n\n", f.Caption, f.Name)
	}
	return []byte(strings.TrimRight(b.String(), "\n") + "\n"), nil
}

// markdown writes the table and an empty line.
func markdown(b *strings.Builder, t *table.Table) {
	_ = t.Markdown(b) // a strings.Builder does not fail
	b.WriteString("\n")
}

// correlations writes the lower triangle of the matrix, and the redundant pairs.
func (r *Report) correlations(b *strings.Builder) {
	c := r.Validation.Correlation
	heads := []string{"correlation"}
	for i := range c.Features {
		heads = append(heads, fmt.Sprintf(">%d", i+1))
	}
	t := table.New(heads...)
	for i, name := range c.Features {
		cells := []any{fmt.Sprintf("%d %s", i+1, name)}
		for j := range c.Features {
			switch {
			case j > i:
				cells = append(cells, "")
			case c.Matrix[i][j] == nil:
				cells = append(cells, "-")
			default:
				cells = append(cells, fmt.Sprintf("%.2f", *c.Matrix[i][j]))
			}
		}
		t.Row(cells...)
	}
	markdown(b, t)
	if len(c.Flagged) == 0 {
		fmt.Fprintf(b, "No pair is correlated above %.2f.\n\n", redundant)
		return
	}
	for _, p := range c.Flagged {
		fmt.Fprintf(b, "- `%s` and `%s` are correlated at %.3f, above %.2f.\n", p.A, p.B, p.R, redundant)
	}
	b.WriteString("\n")
}

func (r *Report) drift(b *strings.Builder) {
	b.WriteString("## Drift on the holdout\n\nMedians over folds of the drift from the training days to the days after them.\n\n")
	t := table.New("features", ">days", ">folds", ">PSI", ">null 99 %", ">"+stableFolds())
	for _, w := range r.Drift.Windows {
		if w.Folds == 0 {
			t.Row("all", w.Days, 0, "-", "-", "no fold has so many test days")
		}
		for _, s := range w.Sets {
			t.Row("**"+s.Set+" overall**", w.Days, w.Folds, decimals(s.Overall.PSI), decimals(s.Overall.Q99), fmt.Sprintf("%.0f %%", 100*s.Stable))
			for _, f := range s.Features {
				t.Row(s.Set+": "+f.Feature, w.Days, w.Folds, decimals(f.PSI), decimals(f.Q99), "")
			}
		}
	}
	markdown(b, t)
	b.WriteString("Overall is the mean over the features without the constant.\n\n")
}
