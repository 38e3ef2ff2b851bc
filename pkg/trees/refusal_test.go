package trees

import (
	"os"
	"strings"
	"testing"
)

func readText(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// edit replaces the first occurrence of old in text, which must contain it.
func edit(t testing.TB, text, old, with string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in the model", old)
	}
	return strings.Replace(text, old, with, 1)
}

// setLine sets a key of a tree in LightGBM's text.
func setLine(t testing.TB, text, tree, key, value string) string {
	t.Helper()
	at := strings.Index(text, "Tree="+tree+"\n")
	from := at + strings.Index(text[at:], "\n"+key+"=") + 1
	if at < 0 || from <= at {
		t.Fatalf("no %s in tree %s", key, tree)
	}
	to := from + strings.Index(text[from:], "\n")
	return text[:from] + key + "=" + value + text[to:]
}

func TestLightGBMRefuses(t *testing.T) {
	base := readText(t, "testdata/lightgbm_category.txt")
	beforeSizes, _, _ := strings.Cut(base, "tree_sizes")
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "empty file"},
		{"another file", "hello\n", `starts with "hello`},
		{"header only", "tree\nversion=v4\n", "truncated"},
		{"truncated", base[:len(base)/2], "truncated"},
		{"version", edit(t, base, "version=v4", "version=v2"), `version "v2": want v3 or v4`},
		{"multiclass", edit(t, base, "num_class=1", "num_class=3"), "want a two-class model"},
		{"trees per iteration", edit(t, base, "num_tree_per_iteration=1", "num_tree_per_iteration=3"), "want a two-class model"},
		{"regression", edit(t, base, "objective=binary sigmoid:0.7", "objective=regression"), `objective "regression": want binary`},
		{"cross_entropy_lambda", edit(t, base, "objective=binary sigmoid:0.7", "objective=cross_entropy_lambda"), "want binary or cross_entropy"},
		{"own loss", edit(t, base, "objective=binary sigmoid:0.7\n", ""), "no objective"},
		{"sigmoid 0", edit(t, base, "sigmoid:0.7", "sigmoid:0"), "sigmoid needs a finite number > 0"},
		{"sigmoid missing", edit(t, base, "sigmoid:0.7", ""), "no sigmoid"},
		{"features", edit(t, base, "max_feature_idx=4", "max_feature_idx=5"), "5 feature_names: max_feature_idx 5 needs 6"},
		{"many features", edit(t, base, "max_feature_idx=4", "max_feature_idx=2000000000"), "needs 2000000001"},
		{"same names", edit(t, base, "feature_names=a zeros", "feature_names=a a"), `feature name "a": appears twice`},
		{"tree missing", edit(t, base, "Tree=3", "Tree=4"), "want Tree=3"},
		{"tree count", edit(t, base, "tree_sizes=", "tree_sizes=1 "), "8 trees: the header announces 9"},
		{"no trees", beforeSizes + "end of trees\n", "no trees"},
		{"linear", setLine(t, base, "2", "is_linear", "1"), "tree 2: linear leaves"},
		{"many leaves", setLine(t, base, "2", "num_leaves", "2000000000"), "tree 2: num_leaves 2000000000: want 1 to"},
		{"no leaves", setLine(t, base, "2", "num_leaves", "0"), "tree 2: num_leaves 0"},
		{"leaf count", setLine(t, base, "2", "num_leaves", "7"), "tree 2: leaf_value has 8 numbers: want 7"},
		{"leaf NaN", setLine(t, base, "2", "leaf_value", "1 2 3 nan 5 6 7 8"), "tree 2 leaf 3: leaf value NaN"},
		{"leaf infinite", setLine(t, base, "2", "leaf_value", "1 2 3 4 5 6 7 -inf"), "tree 2 leaf 7: leaf value -Inf"},
		{"leaf huge", setLine(t, base, "2", "leaf_value", "1 2 3 4 5 6 7 1e300"), "tree 2 leaf 7: leaf value 1e+300"},
		{"no number", setLine(t, base, "2", "leaf_value", "1 2 3 4 5 six 7 8"), `tree 2: leaf_value: number 5 is "six"`},
		{"short array", setLine(t, base, "2", "left_child", "1 2 3"), "tree 2: left_child has 3 numbers: want 7"},
		{"child range", setLine(t, base, "2", "left_child", "1 2 3 4 5 6 99"), "tree 2: node 6: child 99 is not in the tree"},
		{"leaf range", setLine(t, base, "2", "left_child", "1 2 3 4 5 6 -9"), "tree 2: node 6: child -9 is not in the tree"},
		{"cycle", setLine(t, base, "2", "left_child", "1 2 3 4 5 6 0"), "tree 2 node 1: child node 2 has another parent already: a cycle"},
		{"self", setLine(t, base, "2", "left_child", "0 2 3 4 5 6 -1"), "tree 2 node 0: child node 0 has another parent"},
		{"unreachable", setLine(t, setLine(t, base, "2", "left_child", "-1 -2 -3 -4 -5 -6 -7"), "2", "right_child", "-8 2 3 4 5 6 -1"), "tree 2 node 1: not reached"},
		{"feature range", setLine(t, base, "2", "split_feature", "0 1 2 3 4 5 0"), "feature 5 is not among the 5"},
		{"feature negative", setLine(t, base, "2", "split_feature", "0 1 2 3 4 -1 0"), "feature -1 is not among the 5"},
		{"decision", setLine(t, base, "2", "decision_type", "2 2 2 2 2 2 12"), "tree 2: node 6: unknown decision_type 12"},
		{"threshold NaN", setLine(t, setLine(t, base, "2", "decision_type", "2 2 2 2 2 2 2"), "2", "threshold", "1 1 1 1 1 1 nan"), "tree 2 node 6: threshold is not a number"},
		{"set range", setLine(t, setLine(t, base, "2", "decision_type", "2 2 2 2 2 2 1"), "2", "threshold", "1 1 1 1 1 1 70"), "tree 2: node 6: category set 70"},
		{"set without sets", setLine(t, setLine(t, base, "2", "decision_type", "2 2 2 2 2 2 1"), "2", "num_cat", "0"), "num_cat is 0"},
		{"set bounds", setLine(t, base, "2", "cat_boundaries", "0 2000000000"), "tree 2: cat_"},
		{"many sets", setLine(t, base, "2", "num_cat", "2000000000"), "tree 2: num_cat 2000000000"},
		{"twice, with an escape", edit(t, base, "version=v4", "\x1b[2J=1\n\x1b[2J=2\nversion=v4"), "\uFFFD[2J appears twice"},
		{"twice", setLine(t, base, "2", "num_cat", "0\nnum_cat=1"), "tree 2: num_cat appears twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Import("m", strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || e != nil {
				t.Fatalf("got %v, %v; want an error with %q", e, err, c.want)
			}
		})
	}
}

func TestXGBoostRefuses(t *testing.T) {
	base := readText(t, "testdata/xgboost_category.json")
	dart := readText(t, "testdata/xgboost_dart.json")
	pruned := readText(t, "testdata/xgboost_pruned.json")
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "empty file"},
		{"UBJSON, truncated", "{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "UBJSON, at byte 18: the file is truncated"},
		{"UBJSON, another", "{i\x01aSi\x01b}", "no learner: not the JSON of Booster.save_model"},
		{"UBJSON, a length of 2^62", "{i\x01a[$d#L\x40\x00\x00\x00\x00\x00\x00\x00", "length 4611686018427387904: want 0 to"},
		{"UBJSON, a negative length", "{i\x01aSi\xff}", "length -1: want 0 to"},
		{"UBJSON, items without bytes", "{i\x01a[$T#l\x7f\xff\xff\xff}", "items of type 'T'"},
		{"UBJSON, deep", "{i\x01a" + strings.Repeat("[", 1000), "more than 64 levels"},
		{"UBJSON, trailing", "{i\x01aZ}{", "UBJSON: 1 bytes after the model"},
		{"UBJSON, unknown type", "{i\x01aQ}", "type 'Q': want an integer"},
		{"old binary", "binf\x00\x00\x00\x3f", `save_model("model.json")`},
		{"truncated", base[:len(base)/2], "truncated"},
		{"trailing", base + "{}", "after top-level value"},
		{"not a model", "{}", "no learner"},
		{"objective", edit(t, base, `"binary:logistic"`, `"binary:logitraw"`), `objective "binary:logitraw": want`},
		{"multiclass", edit(t, base, `"num_class":"0"`, `"num_class":"3"`), `num_class "3"`},
		{"targets", edit(t, base, `"num_target":"1"`, `"num_target":"2"`), `num_target "2"`},
		{"linear booster", edit(t, base, `"name":"gbtree"`, `"name":"gblinear"`), `booster "gblinear": want gbtree or dart`},
		{"dart weights", edit(t, dart, `"weight_drop":[`, `"weight_drop":[1,`), "weight_drop"},
		{"dart weightless", edit(t, dart, `"weight_drop":[`, `"weight_droop":[`), "weight_drop has 0 values"},
		{"base score", edit(t, base, `"base_score":"5E-1"`, `"base_score":"1E0"`), "base_score"},
		{"base margin", edit(t, base, `"base_score":"5E-1"`, `"base_score":"1E-39"`), "base margin -Inf: want a number within"},
		{"base scores", edit(t, base, `"base_score":"5E-1"`, `"base_score":"[5E-1,5E-1]"`), "want one value"},
		{"no base score", edit(t, base, `"base_score":"5E-1",`, ""), "base_score"},
		{"features", edit(t, base, `"num_feature":"5","num_target"`, `"num_feature":"6","num_target"`), "5 feature_names: num_feature needs 6"},
		{"many features", edit(t, pruned, `"num_feature":"5","num_target"`, `"num_feature":"500000000","num_target"`), "num_feature"},
		{"feature range", edit(t, base, `"split_indices":[`, `"split_indices":[7`), "tree 0 node 0: feature 7"},
		{"child range", edit(t, base, `"left_children":[1,3`, `"left_children":[1,300`), "tree 0 node 1: child 300 is not in the tree"},
		{"negative child", edit(t, base, `"left_children":[1,3`, `"left_children":[1,-3`), "tree 0 node 1: child -3 is not in the tree"},
		{"cycle", edit(t, base, `"left_children":[1,3`, `"left_children":[1,0`), "tree 0 node 1: child node 0 has another parent"},
		{"unreachable", edit(t, pruned, `"num_deleted":"2"`, `"num_deleted":"0"`), "not reached from the root"},
		{"deleted", edit(t, base, `"num_deleted":"0"`, `"num_deleted":"2"`), "every node is reached, but 2 are marked as deleted"},
		{"sizes", edit(t, base, `"left_children":[1,`, `"left_children":[`), "num_nodes"},
		{"sizes differ", edit(t, base, `"default_left":[`, `"default_left":[0,`), "16 default_left"},
		{"default", edit(t, base, `"default_left":[`, `"default_left":[7`), "want 0 or 1"},
		{"null", edit(t, base, `"split_indices":[`, `"split_indices":[null,`), "tree 0: a value is null"},
		{"split type", edit(t, base, `"split_type":[1`, `"split_type":[2`), "split_type 2"},
		{"segments", edit(t, base, `"categories_segments":[0`, `"categories_segments":[-1`), "categories -1 to"},
		{"category", edit(t, base, `"categories":[`, `"categories":[99999999,`), "category 99999999"},
		{"category negative", edit(t, base, `"categories":[`, `"categories":[-5,`), "category -5"},
		{"threshold NaN", edit(t, base, `"split_type":[1`, `"split_type":[0`), " node 0: threshold is not a number"},
		{"output", edit(t, base, `"tree_info":[0`, `"tree_info":[1`), "tree 0: adds to output 1"},
		{"tree count", edit(t, base, `"num_trees":"8"`, `"num_trees":"9"`), "8 trees: num_trees is"},
		{"tree info", edit(t, base, `"tree_info":[0,`, `"tree_info":[`), "tree_info has 7 values"},
		{"vector leaves", strings.ReplaceAll(base, `"size_leaf_vector":"0"`, `"size_leaf_vector":"2"`), "vector leaves"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Import("m", strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || e != nil {
				t.Fatalf("got %v, %v; want an error with %q", e, err, c.want)
			}
		})
	}
}
