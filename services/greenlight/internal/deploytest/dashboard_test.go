package deploytest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dashboard is the part of Grafana's schema that the dashboard uses. Any other key, such as a misspelt one, is an error.
// The options of the panel types are not checked.
type dashboard struct {
	UID, Title, Description, Refresh, Timezone string
	Tags                                       []string
	SchemaVersion, Version, GraphTooltip       int
	FiscalYearStartMonth                       int
	Editable                                   bool
	Time                                       struct{ From, To string }
	Links                                      []any
	Annotations                                struct{ List []annotation }
	Templating                                 struct{ List []variable }
	Panels                                     []panel
}

type datasource struct{ Type, UID string }

type annotation struct {
	Name, Expr, IconColor, TitleFormat string
	Datasource                         datasource
	Enable, UseValueForTime            bool
}

type variable struct {
	Name, Type, Label, AllValue string
	Query                       any // a string, or an object that contains one
	Datasource                  *datasource
	Hide, Refresh, Sort         int
	IncludeAll, Multi           bool
	Current                     map[string]any
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	Panels                   []panel
	Datasource               *datasource
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults  map[string]any
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value any
			}
		}
	}
	Options map[string]any
	Targets []target
}

type target struct {
	Datasource                                    datasource
	EditorMode, Expr, LegendFormat, RefID, Format string
	Range, Instant                                bool
}

// board reads the shipped dashboard.
func board(t *testing.T) *dashboard {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(deploy, "grafana", "dashboards", "greenlight.json"))
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	var d dashboard
	if err := decoder.Decode(&d); err != nil {
		t.Fatalf("greenlight.json: %v", err)
	}
	return &d
}

// query returns the query of a variable as text.
func (v variable) query() string {
	if object, is := v.Query.(map[string]any); is {
		text, _ := object["query"].(string)
		return text
	}
	text, _ := v.Query.(string)
	return text
}

func TestDashboard(t *testing.T) {
	d := board(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 || d.Refresh == "" {
		t.Errorf("the dashboard is %q, %q, schema %d, refresh %q", d.UID, d.Title, d.SchemaVersion, d.Refresh)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "query" && (!v.IncludeAll || !v.Multi || v.AllValue != ".*" || v.Datasource == nil) {
			t.Errorf("variable %s: %+v, want one that allows all and several values", v.Name, v)
		}
	}
	if !slices.Equal(variables, []string{"datasource", "instance", "model_version"}) {
		t.Errorf("the variables are %v", variables)
	}
	ids, taken := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other, twice := ids[p.ID]; twice || p.ID <= 0 {
			t.Errorf("panels %q and %q have the same ID %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if g := p.GridPos; g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%q is outside the grid: %+v", p.Title, g)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, twice := taken[[2]int{x, y}]; twice {
					t.Fatalf("%q overlaps %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" {
			p.check(t)
		}
	}
}

// check checks that a panel has what a reader needs: a description, and the number of samples.
func (p panel) check(t *testing.T) {
	t.Helper()
	if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
		t.Errorf("panel %d %q: description %q, %d queries", p.ID, p.Title, p.Description, len(p.Targets))
	}
	if p.Datasource == nil || p.Datasource.UID != "${datasource}" {
		t.Errorf("%q ignores the chosen data source", p.Title)
	}
	if p.FieldConfig.Defaults["noValue"] != "no data" {
		t.Errorf("%q does not show \"no data\"", p.Title)
	}
	var refs []string
	counted := false
	for _, q := range p.Targets {
		if slices.Contains(refs, q.RefID) || q.RefID == "" || q.Expr == "" || q.Range == q.Instant || q.Datasource.UID != "${datasource}" {
			t.Errorf("%q: query %+v", p.Title, q)
		}
		refs = append(refs, q.RefID)
		counted = counted || q.LegendFormat == "n" || p.Type == "table" && strings.HasPrefix(q.Expr, "count by")
		switch {
		case strings.Contains(q.Expr, `job="executor"`) && !strings.Contains(q.Expr, `instance=~"$instance"`):
			t.Errorf("%q ignores the chosen instance: %s", p.Title, q.Expr)
		case strings.Contains(q.Expr, "ml_predict_") && !strings.Contains(q.Expr, `model_version=~"$model_version"`):
			t.Errorf("%q ignores the chosen model: %s", p.Title, q.Expr)
		}
	}
	if !counted {
		t.Errorf("%q does not show its n", p.Title)
	}
}

// The dashboard has these panels, which are recognized by their queries. The first row answers the four
// questions.
func TestDashboardOfTheDesign(t *testing.T) {
	d := board(t)
	var first []string
	for _, p := range d.Panels {
		if p.Type != "row" && p.GridPos.Y == d.Panels[1].GridPos.Y {
			first = append(first, p.Title)
		}
	}
	if want := []string{"Is the baseline affected?", "Is the shadow seen?", "Does it agree?", "Has the input drifted?"}; !slices.Equal(first, want) {
		t.Errorf("the first row is %q, want %q", first, want)
	}
	for what, parts := range map[string][]string{
		"latency p50, p95, p99":           {"histogram_quantile(0.5,", "histogram_quantile(0.95,", "histogram_quantile(0.99,", "ml_predict_latency_ms_bucket"},
		"match rate":                      {"timeseries", "ml_shadow_match_total", "at worst", "at best"},
		"delta distribution":              {"ml_shadow_abs_delta_bucket"},
		"PSI":                             {"ml:psi:7d", "ml:psi_overall:7d"},
		"shadow against baseline latency": {"ml_baseline_latency_ms_bucket", "ml_shadow_latency_ms_bucket"},
		"request rate":                    {"rate(ml_baseline_latency_ms_count", "rate(ml_predict_requests_total"},
		"match and mismatch counts":       {"ml_shadow_match_total", "ml_shadow_mismatch_total"},
		"current match rate":              {"gauge", "ml_shadow_match_total"},
		"model version":                   {"ml_model_info", "version, digest"},
		"is the baseline affected":        {"ml_baseline_latency_ms_bucket", "grpc_server_handled_total"},
		"coverage":                        {"ml_shadow_success_total", `outcome!=\"not_sampled\"`},
		"who decides":                     {`ml_decisions_total{`, `decided_by=\"model\"`, "ml_gate_open", "ml_gate_latch"},
		"budget of the gate":              {"ml_gate_hour_changed{", "ml_gate_hour_changed_limit"},
		"wait for the model":              {"ml_gate_wait_ms_bucket"},
		"who follows the group":           {"ml_fleet_connected", "ml_rollout_percent"},
		"breaker":                         {"ml_shadow_breaker_state", "ml_shadow_breaker_blind"},
	} {
		if !slices.ContainsFunc(d.Panels, func(p panel) bool {
			raw, err := json.Marshal(p)
			return err == nil && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(string(raw), part) })
		}) {
			t.Errorf("no panel has %s", what)
		}
	}
	for _, p := range d.Panels {
		if p.Title == "Match rate" {
			raw, _ := json.Marshal(p.FieldConfig.Defaults)
			if !strings.Contains(string(raw), "0.95") || !strings.Contains(string(raw), "thresholdsStyle") {
				t.Errorf("the match rate has no line at its SLO: %s", raw)
			}
		}
	}
}
