package trees

import (
	"strings"
	"testing"
)

func TestImport(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Format
		err        string
	}{
		{"text", readText(t, "testdata/lightgbm_leaf.txt"), LightGBM, ""},
		{"json", readText(t, "testdata/xgboost_category.json"), XGBoost, ""},
		{"space before", "\n  " + readText(t, "testdata/lightgbm_category.txt"), LightGBM, ""},
		{"truncated text", readText(t, "testdata/lightgbm_category.txt")[:500], "", "truncated"},
		{"truncated json", readText(t, "testdata/xgboost_category.json")[:500], "", "xgboost model: the file is truncated"},
		{"prose", "Dear all,", "", `m: starts with "Dear all,": want a LightGBM`},
		{"other json", `{"a":1}`, "", "no learner"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Import("m", strings.NewReader(c.text))
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) || e != nil {
					t.Errorf("got %v, %v; want an error with %q", e, err, c.err)
				}
			case err != nil:
				t.Error(err)
			case e.Format() != c.want || e.Trees() == 0 || len(e.nodes) < e.Trees():
				t.Errorf("format %s, %d trees, %d nodes; want %s", e.Format(), e.Trees(), len(e.nodes), c.want)
			}
		})
	}
}

// Other spellings of one model: from other library versions, platforms, and programs that rewrote the JSON.
func TestSameModel(t *testing.T) {
	x := []float64{0.3, 0, -0.2, 7, 1}
	lightgbm, xgboost := "testdata/lightgbm_category.txt", "testdata/xgboost_category.json"
	for _, c := range []struct {
		name, path string
		change     func(s string) string
	}{
		{"LightGBM 3", lightgbm, func(s string) string { return edit(t, s, "version=v4", "version=v3") }},
		{"LightGBM on Windows", lightgbm, func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }},
		{"LightGBM before linear trees", lightgbm, func(s string) string { return strings.ReplaceAll(s, "is_linear=0\n", "") }},
		{"LightGBM without sizes", lightgbm, func(s string) string { return edit(t, s, "tree_sizes=", "other=") }},
		{"XGBoost 3.1 base_score", xgboost, func(s string) string { return edit(t, s, `"5E-1"`, `"[5E-1]"`) }},
		{"base_score as a number", xgboost, func(s string) string { return edit(t, s, `"base_score":"5E-1"`, `"base_score":0.5`) }},
		{"XGBoost without targets", xgboost, func(s string) string { return edit(t, s, `,"num_target":"1"`, "") }},
		{"XGBoost 2 leaf vectors", xgboost, func(s string) string {
			return strings.ReplaceAll(s, `"size_leaf_vector":"0"`, `"size_leaf_vector":"1"`)
		}},
		{"XGBoost booleans", xgboost, func(s string) string {
			from := strings.Index(s, `"default_left":[`) + len(`"default_left":[`)
			to := from + strings.Index(s[from:], "]")
			bits := strings.NewReplacer("0", "false", "1", "true").Replace(s[from:to])
			return s[:from] + bits + s[to:]
		}},
		{"spaces", xgboost, func(s string) string { return strings.ReplaceAll(s, ",", " ,\n ") }},
		{"infinite statistics", xgboost, func(s string) string {
			return edit(t, edit(t, s, `"loss_changes":[`, `"loss_changes":[-Infinity,Infinity,`), `"attributes":{`, `"attributes":{"note":"NaN \" NaN",`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := readModel(t, c.path).Margin(x)
			changed, err := Import("m", strings.NewReader(c.change(readText(t, c.path))))
			if err != nil {
				t.Fatal(err)
			}
			if got := changed.Margin(x); got != want || want == 0 {
				t.Errorf("margin %v, want %v", got, want)
			}
		})
	}
}
