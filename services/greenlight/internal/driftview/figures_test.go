package driftview

import (
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

func TestFigures(t *testing.T) {
	r := report(t, 7, true, [4]float64{})
	figures, err := r.Figures("psi_compare/", r.Title("v1.8.1-rc1", evidence.Simulated))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range figures {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(f.Name, "psi_compare/psi_"), ".svg"))
		if !strings.Contains(string(f.SVG), "v1.8.1-rc1, 2026-08-25 to 2026-09-01 (SIMULATED)") {
			t.Errorf("%s does not say what it is of", f.Name)
		}
	}
	if want := []string{"vol1m_log_rel", "rsi14_z", "score", "mid", "overview", "history"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	history := string(figures[len(figures)-1].SVG)
	for _, want := range []string{"3 of them", "window not full yet", "PSI of the raw inputs"} {
		if !strings.Contains(history, want) {
			t.Errorf("no %q in the history", want)
		}
	}
	// Without a history there is no figure of it, and without a window no time in the title.
	r.History, r.Window = nil, Window{}
	if figures, err = r.Figures("", r.Title("x", evidence.Live)); err != nil || len(figures) != 5 || !strings.Contains(string(figures[0].SVG), ">Drift of vol1m_log_rel: x<") {
		t.Errorf("%d figures, %v", len(figures), err)
	}
}
