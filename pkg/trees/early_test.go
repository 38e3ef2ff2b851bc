package trees

import (
	"strings"
	"testing"
)

// An early-stopped model scores with the trees that XGBClassifier.predict_proba uses. TestLibraryPredictions compares
// the scores of the three files with the library's.
func TestEarlyStop(t *testing.T) {
	early, forest := readText(t, "testdata/xgboost_early.json"), readText(t, "testdata/xgboost_early_forest.json")
	without := func(text, attribute string) string {
		from := strings.Index(text, `"`+attribute+`":`)
		to := from + strings.Index(text[from:], ",") + 1
		return text[:from] + text[to:]
	}
	attribute := func(text, name, value string) string {
		return edit(t, without(text, name), `"attributes":{`, `"attributes":{"`+name+`":"`+value+`",`)
	}
	unrounded := strings.ReplaceAll(forest, `"num_parallel_tree":"2"`, `"num_parallel_three":"2"`)
	rounds := func(ends string) string {
		return edit(t, attribute(early, "best_ntree_limit", "7"), `"tree_info":`, `"iteration_indptr":`+ends+`,"tree_info":`)
	}
	for _, c := range []struct {
		name, text string
		used, all  int
		err        string
	}{
		{"a tree a round", early, 9, 12, ""},
		{"dart", readText(t, "testdata/xgboost_early_dart.json"), 4, 7, ""},
		{"two trees a round", forest, 16, 22, ""},
		{"only best_iteration", without(forest, "best_ntree_limit"), 16, 22, ""},
		{"only best_ntree_limit", without(forest, "best_iteration"), 16, 22, ""},
		{"neither", without(without(forest, "best_iteration"), "best_ntree_limit"), 22, 22, ""},
		{"the last round is the best", attribute(attribute(early, "best_iteration", "11"), "best_ntree_limit", "12"), 12, 12, ""},
		{"rounds of different sizes", attribute(rounds("[0,3,4,7,12]"), "best_iteration", "2"), 7, 12, ""},
		{"no size of a round, but a limit", unrounded, 16, 22, ""},
		{"no size of a round", without(unrounded, "best_ntree_limit"), 0, 22, "number of trees per round"},
		{"they contradict each other", attribute(early, "best_ntree_limit", "7"), 0, 12, "best_iteration 8 means 9 trees, but best_ntree_limit is 7"},
		{"a round that is not there", attribute(early, "best_iteration", "12"), 0, 12, "best_iteration is 12, but the file has 12 rounds"},
		{"a huge round", attribute(early, "best_iteration", "9223372036854775807"), 0, 12, "the file has 12 rounds"},
		{"a negative round", attribute(early, "best_iteration", "-1"), 0, 12, `best_iteration "-1"`},
		{"no number", attribute(early, "best_iteration", "\\u001b[2J"), 0, 12, `best_iteration "\x1b[2J"`},
		{"a limit that is not there", attribute(early, "best_ntree_limit", "13"), 0, 12, `best_ntree_limit "13": want 1 to 12`},
		{"rounds beyond the trees", attribute(rounds("[0,3,13]"), "best_iteration", "0"), 0, 12, "iteration_indptr 2 is 13"},
		{"rounds that go back", attribute(rounds("[0,3,2]"), "best_iteration", "0"), 0, 12, "iteration_indptr 2 is 2"},
		{"rounds that start late", attribute(rounds("[1,3]"), "best_iteration", "0"), 0, 12, "iteration_indptr 0 is 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := ImportAll("m", strings.NewReader(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if all.Trees() != c.all || all.AllTrees() != c.all {
				t.Errorf("all trees: %d of %d, want %d", all.Trees(), all.AllTrees(), c.all)
			}
			e, err := Import("m", strings.NewReader(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "--all-trees") {
					t.Errorf("got %v, want an error with %q and what to do", err, c.err)
				}
				return
			}
			if err != nil || e.Trees() != c.used || e.AllTrees() != c.all {
				t.Fatalf("got %v, %v; want %d of %d trees", e, err, c.used, c.all)
			}
			x := []float64{0.3, -0.5, 1}
			if got, want := e.Score(x) == all.Score(x), c.used == c.all; got != want {
				t.Errorf("same score as all trees: %v, want %v", got, want)
			}
		})
	}
	e := readModel(t, "testdata/xgboost_early.json")
	for _, n := range []int{0, -1, 13} {
		if _, err := e.First(n); err == nil {
			t.Errorf("the first %d of 12 trees: no error", n)
		}
	}
}

// Features that change a model's predictions and are not supported are refused.
func TestImportRefusesOtherInputs(t *testing.T) {
	early := readText(t, "testdata/xgboost_early.json")
	missing := `\"missing\": NaN`
	text := readText(t, "testdata/lightgbm_category.txt")
	for _, c := range []struct{ name, text, err string }{
		{"a number for missing", edit(t, early, missing, `\"missing\": -999.0`), "trained with missing=-999.0"},
		{"zero for missing", edit(t, early, missing, `\"missing\": 0`), "trained with missing=0"},
		{"missing null", edit(t, early, missing, `\"missing\": null`), ""},
		{"parameters that are not JSON", edit(t, early, missing, `\"missing: 0`), ""},
		{"encoded categories", edit(t, early, `"tree_info":`, `"cats":{"enc":[{"type":5}],"feature_segments":[0,1]},"tree_info":`), "encodes categories"},
		{"no categories", edit(t, early, `"tree_info":`, `"cats":{"enc":[],"feature_segments":[]},"tree_info":`), ""},
		{"pandas_categorical", text + "pandas_categorical:[[\"asia\", \"london\"]]\n", `pandas_categorical has "\"asia\"" for 0`},
		{"pandas_categorical of other numbers", text + "\nparameters:\nend of parameters\n\npandas_categorical:[[0, 1, 3]]\n", `has "3" for 2`},
		{"pandas_categorical of codes", text + "pandas_categorical:[[0, 1, 2], [0.0, 1.0]]\n", ""},
		{"pandas_categorical null", text + "pandas_categorical:null\n", ""},
		{"pandas_categorical damaged", text + "pandas_categorical:[[\n", "want lists of categories"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ImportAll("m", strings.NewReader(c.text))
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}
