package driftview

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/figure"
)

// Title returns the title of the figures of a measurement.
func (r *Report) Title(of string, source evidence.Source) string {
	if !r.Window.End.IsZero() {
		of = fmt.Sprintf("%s, %s to %s", of, r.Window.Start.Format(time.DateOnly), r.Window.End.Add(-1).Format(time.DateOnly))
	}
	if source == evidence.Simulated {
		of += " (SIMULATED)"
	}
	return of
}

// Figures draws the report: the bins of every feature, all PSI values with their noise, and their history. Names begin
// with the folder, which may be empty. A report without a PSI has no figures.
func (r *Report) Figures(folder, title string) *figure.Set {
	figures := &figure.Set{Prefix: folder + "psi_"}
	if r.Overall == nil {
		return figures
	}
	for _, f := range r.Features {
		figures.Add(f.Feature, "", func(w io.Writer) error { return plots.PSI(w, title, f) })
	}
	figures.Add("overview", "", func(w io.Writer) error { return plots.PSIOverview(w, title, r.Overall, r.Features) })
	figures.Add("history", "", func(w io.Writer) error { return r.drawHistory(w, title) })
	return figures
}

// drawHistory draws the points of the history, with a line per feature of the report.
func (r *Report) drawHistory(w io.Writer, title string) error {
	var t plots.PSITimes
	for _, f := range r.Features {
		t.Lines = append(t.Lines, plots.PSILine{Name: f.Feature, Role: f.Role})
	}
	for _, p := range r.History {
		t.At, t.Overall = append(t.At, p.End), append(t.Overall, p.Overall)
		if p.Partial {
			t.Filling++ // the partial windows come first
		}
		for j := range t.Lines {
			v, ok := p.Features[t.Lines[j].Name]
			if !ok {
				v = math.NaN()
			}
			t.Lines[j].Values = append(t.Lines[j].Values, v)
		}
	}
	return plots.PSIHistory(w, title, t)
}

// Write writes the figures, whose names begin with prefix, and then the report as file. body is the report with what the
// file adds to it. It returns the number of figures.
func (r *Report) Write(store *evidence.Store, file, prefix, title string, header evidence.Header, body any) (int, error) {
	figures := r.Figures(prefix, title)
	if err := figures.Write(store); err != nil {
		return 0, err
	}
	return len(figures.All), store.WriteJSON(file, header, body)
}
