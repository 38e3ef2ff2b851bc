package trees

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// fields holds the key=value lines of a header or a tree. A line without = has an empty value.
type fields map[string]string

func (f fields) add(line string) error {
	key, value, _ := strings.Cut(line, "=")
	if _, ok := f[key]; ok {
		return fmt.Errorf("%s appears twice", text.Clean(key, 40))
	}
	f[key] = value
	return nil
}

func (f fields) number(key string) (int, error) {
	text, ok := f[key]
	if !ok {
		return 0, fmt.Errorf("no %s", key)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s=%.40q: want a whole number", key, text)
	}
	return int(n), nil
}

// list parses the n numbers of a key.
func list[T any](f fields, key string, n int, parse func(string) (T, error)) ([]T, error) {
	text, ok := f[key]
	if !ok {
		return nil, fmt.Errorf("no %s", key)
	}
	words := strings.Fields(text)
	if len(words) != n {
		return nil, fmt.Errorf("%s has %d numbers: want %d", key, len(words), n)
	}
	out := make([]T, n)
	for i, w := range words {
		v, err := parse(w)
		if err != nil {
			return nil, fmt.Errorf("%s: number %d is %.40q", key, i, w)
		}
		out[i] = v
	}
	return out, nil
}

func parseInt(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err
}

func parseWord(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// parseLightGBM reads the output of LightGBM's Booster.save_model, versions v3 and v4. It accepts only two-class models
// whose score is a sum of trees under a logistic link: objective binary or cross_entropy, one tree per iteration, constant
// leaves. It uses all trees of the file; save_model omits those after best_iteration. A categorical input is the code that
// the category had in training.
//
// The format is written by GBDT::SaveModelToString (src/boosting/gbdt_model_text.cpp): a line "tree", a header, a block per
// tree that starts with "Tree=<number>", and "end of trees". The rest describes the training; only its pandas_categorical
// affects predictions. The rules come from LightGBM 4, include/LightGBM/tree.h (Tree::NumericalDecision,
// Tree::CategoricalDecision) and src/boosting/gbdt_prediction.cpp; they are the same in LightGBM 3.
func parseLightGBM(raw string) (*Ensemble, error) {
	lines := strings.Lines(raw)
	header, block := fields{}, fields{}
	b := newBuilder(LightGBM)
	trees, sizes, first, ended := 0, 0, true, false
	categories := ""
	flush := func() error {
		if trees == 0 {
			var err error
			sizes, err = b.lightGBMHeader(header)
			return err
		}
		if err := b.lightGBMTree(block); err != nil {
			return err
		}
		block = fields{}
		return nil
	}
	for line := range lines {
		line = strings.TrimRight(line, "\r\n")
		if ended {
			if list, ok := strings.CutPrefix(line, "pandas_categorical:"); ok {
				categories = list
			}
			continue
		}
		switch {
		case first:
			if line != "tree" {
				return nil, fmt.Errorf("starts with %.40q: want the line \"tree\" of Booster.save_model", line)
			}
			first = false
		case line == "end of trees":
			ended = true
		case strings.HasPrefix(line, "Tree="):
			if err := flush(); err != nil {
				return nil, err
			}
			if want := "Tree=" + strconv.Itoa(trees); line != want {
				return nil, fmt.Errorf("%.40q: want %s", line, want)
			}
			trees++
		case line == "":
		case trees == 0:
			if err := header.add(line); err != nil {
				return nil, err
			}
		default:
			if err := block.add(line); err != nil {
				return nil, fmt.Errorf("tree %d: %w", trees-1, err)
			}
		}
	}
	if !ended {
		return nil, errors.New("no line \"end of trees\": the file is truncated")
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if sizes >= 0 && sizes != trees {
		return nil, fmt.Errorf("%d trees: the header announces %d", trees, sizes)
	}
	if categories != "" {
		if err := checkPandas(json.RawMessage(categories)); err != nil {
			return nil, err
		}
	}
	return b.ensemble()
}

// lightGBMHeader reads the header and returns the announced number of trees, or -1.
func (b *builder) lightGBMHeader(f fields) (int, error) {
	classes, err1 := f.number("num_class")
	perIteration, err2 := f.number("num_tree_per_iteration")
	last, err3 := f.number("max_feature_idx")
	if err := cmp.Or(err1, err2, err3); err != nil {
		return 0, err
	}
	if v := f["version"]; v != "v3" && v != "v4" {
		return 0, fmt.Errorf("version %q: want v3 or v4, which LightGBM 2.3 and later write", v)
	}
	if classes != 1 || perIteration != 1 {
		return 0, fmt.Errorf("num_class %d, num_tree_per_iteration %d: want a two-class model, with 1 and 1", classes, perIteration)
	}
	names := strings.Fields(f["feature_names"])
	if len(names) != last+1 {
		return 0, fmt.Errorf("%d feature_names: max_feature_idx %d needs %d", len(names), last, last+1)
	}
	if err := checkNames(names); err != nil {
		return 0, err
	}
	sigmoid, err := lightGBMSigmoid(f["objective"])
	if err != nil {
		return 0, err
	}
	_, average := f["average_output"]
	b.e.names, b.e.sigmoid, b.e.average = names, sigmoid, average
	if s, ok := f["tree_sizes"]; ok {
		return len(strings.Fields(s)), nil
	}
	return -1, nil
}

// lightGBMTree reads one tree: Tree::Tree(const char*, size_t*) in src/io/tree.cpp. Splits are numbered from 0, the
// root; a negative child -k-1 is leaf k. The leaves are already shrunk, so shrinkage is not applied again.
func (b *builder) lightGBMTree(f fields) error {
	d, err := b.lightGBMDraft(f)
	if err != nil {
		return fmt.Errorf("tree %d: %w", len(b.e.roots)-1, err)
	}
	return b.add(d)
}

func (b *builder) lightGBMDraft(f fields) (*draft, error) {
	leaves, err := f.number("num_leaves")
	if err != nil {
		return nil, err
	}
	if leaves < 1 || leaves > maxNodes {
		return nil, fmt.Errorf("num_leaves %d: want 1 to %d", leaves, maxNodes)
	}
	if linear, ok := f["is_linear"]; ok && strings.TrimSpace(linear) != "0" {
		return nil, errors.New("linear leaves (linear_tree) are not supported: train with linear_tree=false")
	}
	cats, err := f.number("num_cat")
	if err != nil {
		return nil, err
	}
	values, err := list(f, "leaf_value", leaves, parseFloat)
	if err != nil {
		return nil, err
	}
	splits := leaves - 1
	d := &draft{branches: make([]branch, 0, splits+leaves)}
	if splits > 0 {
		if err := b.lightGBMSplits(f, splits, cats, d); err != nil {
			return nil, err
		}
	}
	for i, v := range values {
		d.branches = append(d.branches, branch{kind: kindLeaf, value: v, label: i, leafLabel: true})
	}
	return d, nil
}

func (b *builder) lightGBMSplits(f fields, splits, cats int, d *draft) error {
	feature, err1 := list(f, "split_feature", splits, parseInt)
	threshold, err2 := list(f, "threshold", splits, parseFloat)
	decision, err3 := list(f, "decision_type", splits, parseInt)
	left, err4 := list(f, "left_child", splits, parseInt)
	right, err5 := list(f, "right_child", splits, parseInt)
	sets, err6 := b.lightGBMSets(f, cats)
	if err := cmp.Or(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	for i := range splits {
		br, err := lightGBMDecision(decision[i], threshold[i], cats > 0)
		if err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if br.kind == kindSet {
			if c := threshold[i]; !(c >= 0 && c < float64(cats)) {
				return fmt.Errorf("node %d: category set %v is not among the %d of the tree", i, c, cats)
			}
			br.value = float64(sets + int(threshold[i]))
		}
		br.feature, br.label = feature[i], i
		for _, c := range []struct {
			from int
			to   *int
		}{{left[i], &br.left}, {right[i], &br.right}} {
			switch {
			case c.from >= splits || c.from < -splits-1:
				return fmt.Errorf("node %d: child %d is not in the tree, which has %d splits and %d leaves", i, c.from, splits, splits+1)
			case c.from >= 0:
				*c.to = c.from
			default:
				*c.to = splits + (-c.from - 1)
			}
		}
		d.branches = append(d.branches, br)
	}
	return nil
}

// lightGBMDecision reads the bits of decision_type: 1 categorical (kCategoricalMask), 2 default left
// (kDefaultLeftMask), 4 and 8 the missing type. For a categorical split only the first bit counts, and NaN goes right.
func lightGBMDecision(bits int, threshold float64, hasSets bool) (branch, error) {
	if bits < 0 || bits > 15 || bits>>2 == 3 {
		return branch{}, fmt.Errorf("unknown decision_type %d", bits)
	}
	if bits&1 == 0 {
		return lightGBMSplit(threshold, lightGBMMissing(bits>>2), bits&2 != 0), nil
	}
	if !hasSets {
		return branch{}, errors.New("a categorical split, but num_cat is 0")
	}
	return branch{kind: kindSet, missingRight: true}, nil
}

// lightGBMSets adds the tree's category sets and returns the number of the first. cat_boundaries divides cat_threshold
// into bit sets, with the layout of Common::FindInBitset.
func (b *builder) lightGBMSets(f fields, cats int) (int, error) {
	first := len(b.e.sets)
	if cats == 0 {
		return first, nil
	}
	if cats < 0 || cats > maxNodes {
		return 0, fmt.Errorf("num_cat %d: want 0 to %d", cats, maxNodes)
	}
	bounds, err := list(f, "cat_boundaries", cats+1, parseInt)
	if err != nil {
		return 0, err
	}
	if bounds[0] != 0 || bounds[cats] < 0 {
		return 0, fmt.Errorf("cat_boundaries go from %d to %d: want from 0 upwards", bounds[0], bounds[cats])
	}
	words, err := list(f, "cat_threshold", bounds[cats], parseWord)
	if err != nil {
		return 0, err
	}
	for i := range cats {
		if bounds[i] > bounds[i+1] || bounds[i+1] > len(words) {
			return 0, fmt.Errorf("cat_boundaries %d: %d is not between its neighbours", i+1, bounds[i+1])
		}
		if _, err := b.set(words[bounds[i]:bounds[i+1]]); err != nil {
			return 0, err
		}
	}
	return first, nil
}
