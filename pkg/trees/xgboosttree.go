package trees

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// xgboostTree is a tree in the JSON: RegTree::SaveModel in src/tree/tree_model.cc, with an array per node property. A
// node whose left child is -1 is a leaf, and its split condition is the tree's contribution.
type xgboostTree struct {
	Left        []int           `json:"left_children"`
	Right       []int           `json:"right_children"`
	Feature     []int           `json:"split_indices"`
	Condition   floats          `json:"split_conditions"`
	DefaultLeft flags           `json:"default_left"`
	SplitType   []int           `json:"split_type"`
	Categories  []int           `json:"categories"`
	CatNodes    []int           `json:"categories_nodes"`
	CatSegments []int           `json:"categories_segments"`
	CatSizes    []int           `json:"categories_sizes"`
	LeafWeights json.RawMessage `json:"leaf_weights"`
	Param       treeParam       `json:"tree_param"`

	// set is the number of the category set of each node with one; weight is for dart.
	set    map[int]int
	weight float32
}

type treeParam struct {
	NumDeleted     string `json:"num_deleted"`
	NumNodes       string `json:"num_nodes"`
	SizeLeafVector string `json:"size_leaf_vector"`
}

// xgboostTrees reads the trees one by one, so that their number is limited before they are held in memory. weights are
// set for dart and nil for gbtree.
func (b *builder) xgboostTrees(m *xgboostModel, weights floats) error {
	d := json.NewDecoder(bytes.NewReader(m.Trees))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.New("no trees")
	}
	for i := 0; d.More(); i++ {
		t := xgboostTree{weight: 1}
		if i >= len(m.TreeInfo) {
			return fmt.Errorf("tree_info has %d values, but there are more trees", len(m.TreeInfo))
		}
		if weights != nil {
			if i >= len(weights) {
				return fmt.Errorf("weight_drop has %d values, but there are more trees", len(weights))
			}
			t.weight = weights[i]
		}
		if err := b.xgboostTree(d, &t, m.TreeInfo[i]); err != nil {
			return err
		}
	}
	trees := b.e.AllTrees()
	if n := m.Param.NumTrees; n != strconv.Itoa(trees) || len(m.TreeInfo) != trees || weights != nil && len(weights) != trees {
		return fmt.Errorf("%d trees: num_trees is %.40q, tree_info has %d values, weight_drop %d", trees, n, len(m.TreeInfo), len(weights))
	}
	return nil
}

func (b *builder) xgboostTree(d *json.Decoder, t *xgboostTree, group int) error {
	fail := func(err error) error { return fmt.Errorf("tree %d: %w", b.e.AllTrees(), err) }
	if group != 0 {
		return fail(fmt.Errorf("adds to output %d: want a model with one output", group))
	}
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return fail(err)
	}
	if bytes.Contains(raw, []byte("null")) { // a decoder would read null as 0
		return fail(errors.New("a value is null"))
	}
	if err := json.Unmarshal(raw, t); err != nil {
		return fail(err)
	}
	draft, err := b.xgboostDraft(t)
	if err != nil {
		return fail(err)
	}
	return b.add(draft)
}

func (b *builder) xgboostDraft(t *xgboostTree) (*draft, error) {
	if err := t.checkSizes(); err != nil {
		return nil, err
	}
	deleted := 0
	if s := t.Param.NumDeleted; s != "" {
		var err error
		if deleted, err = strconv.Atoi(s); err != nil || deleted < 0 {
			return nil, fmt.Errorf("num_deleted %.40q: want a count", s)
		}
	}
	if err := b.xgboostSets(t); err != nil {
		return nil, err
	}
	d := &draft{branches: make([]branch, len(t.Left)), deleted: deleted}
	for i := range t.Left {
		br, err := t.branch(i)
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", i, err)
		}
		d.branches[i] = br
	}
	return d, nil
}

func (t *xgboostTree) checkSizes() error {
	n := len(t.Left)
	if s := t.Param.NumNodes; s != strconv.Itoa(n) {
		return fmt.Errorf("left_children has %d values: num_nodes is %.40q", n, s)
	}
	if s := t.Param.SizeLeafVector; s != "" && s != "0" && s != "1" || len(t.LeafWeights) > 0 {
		return fmt.Errorf("vector leaves (size_leaf_vector %.40q) are not supported: train with multi_strategy one_output_per_tree", s)
	}
	if len(t.Right) != n || len(t.Feature) != n || len(t.Condition) != n || len(t.DefaultLeft) != n {
		return fmt.Errorf("%d left_children but %d right_children, %d split_indices, %d split_conditions, %d default_left",
			n, len(t.Right), len(t.Feature), len(t.Condition), len(t.DefaultLeft))
	}
	// Before XGBoost 1.3 there were no categorical splits, and no split_type.
	if len(t.SplitType) != n && len(t.SplitType) != 0 {
		return fmt.Errorf("%d left_children but %d split_type", n, len(t.SplitType))
	}
	if len(t.CatSegments) != len(t.CatNodes) || len(t.CatSizes) != len(t.CatNodes) {
		return fmt.Errorf("%d categories_nodes but %d categories_segments, %d categories_sizes",
			len(t.CatNodes), len(t.CatSegments), len(t.CatSizes))
	}
	return nil
}

// xgboostSets adds the category sets of the tree's categorical splits.
func (b *builder) xgboostSets(t *xgboostTree) error {
	t.set = map[int]int{}
	for i, node := range t.CatNodes {
		from, size := t.CatSegments[i], t.CatSizes[i]
		if from < 0 || size < 0 || from > len(t.Categories) || size > len(t.Categories)-from {
			return fmt.Errorf("node %d: categories %d to %d: there are %d", node, from, from+size, len(t.Categories))
		}
		set, err := b.categories(t.Categories[from : from+size])
		if err != nil {
			return fmt.Errorf("node %d: %w", node, err)
		}
		t.set[node] = set
	}
	return nil
}

// branch returns node i as a branch. Deleted nodes have meaningless values, so the builder, which sees only nodes in use, checks
// the ranges.
func (t *xgboostTree) branch(i int) (branch, error) {
	if t.Left[i] == -1 {
		// GBTree: the leaf; Dart::PredictBatchInternal: the leaf times the tree's weight, in float32.
		return branch{kind: kindLeaf, value: float64(t.Condition[i] * t.weight), label: i}, nil
	}
	br := branch{
		kind:         kindNumber,
		missingRight: !t.DefaultLeft[i],
		feature:      t.Feature[i],
		value:        xgboostThreshold(t.Condition[i]),
		left:         t.Left[i],
		right:        t.Right[i],
		label:        i,
	}
	if len(t.SplitType) > 0 && t.SplitType[i] != 0 {
		set, ok := t.set[i]
		if t.SplitType[i] != 1 || !ok {
			return branch{}, fmt.Errorf("split_type %d: want 0, or 1 with categories", t.SplitType[i])
		}
		// common::Decision goes right if the category is in the set; a node here goes left, so the children are
		// swapped.
		br.kind, br.value = kindSet, float64(set)
		br.left, br.right, br.missingRight = br.right, br.left, !br.missingRight
	}
	return br, nil
}

// xgboostThreshold returns the double T for which x <= T exactly when float32(x) < t. XGBoost stores a row as floats
// and goes left if the value is below the split condition (predictor::GetNextNode). The doubles that round to a float
// below t reach up to the midpoint between t and the previous float; the midpoint itself rounds to the even one of the
// two.
func xgboostThreshold(t float32) float64 {
	below, at := float64(math.Nextafter32(t, float32(math.Inf(-1)))), float64(t)
	// The position of the next float, if it existed.
	if math.IsInf(below, -1) {
		below = -0x1p128
	}
	if math.IsInf(at, 1) {
		at = 0x1p128
	}
	middle := below + (at-below)/2
	if math.Float32bits(t)&1 == 0 {
		return math.Nextafter(middle, math.Inf(-1))
	}
	return middle
}
