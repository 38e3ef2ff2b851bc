package trees

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// dump reads the JSON of Booster.dump_model (GBDT::DumpModel, Tree::ToJSON) as a stream. The trees are nested objects,
// and a decoder of whole values would allocate them before they could be counted.
//
// Its numbers have 17 digits, which is exact. Its header has everything that the text's has.
type dump struct {
	*json.Decoder
	b *builder
}

func parseLightGBMDump(raw []byte) (*Ensemble, error) {
	d := &dump{json.NewDecoder(bytes.NewReader(raw)), newBuilder(LightGBM)}
	h := lightGBMHeader{classes: -1, treesPerIter: -1, maxFeature: -2}
	var known bool
	err := d.object(func(key string) error {
		switch key {
		case "version":
			return d.Decode(&h.version)
		case "num_class":
			return d.Decode(&h.classes)
		case "num_tree_per_iteration":
			return d.Decode(&h.treesPerIter)
		case "max_feature_idx":
			return d.Decode(&h.maxFeature)
		case "objective":
			return d.Decode(&h.objective)
		case "average_output":
			return d.Decode(&h.average)
		case "feature_names":
			return d.Decode(&h.features)
		case "pandas_categorical":
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return err
			}
			return checkPandas(raw)
		case "tree_info":
			known = true
			return d.trees()
		}
		return d.skip()
	})
	if err != nil {
		return nil, jsonError(raw, err)
	}
	if len(bytes.TrimSpace(raw[d.InputOffset():])) > 0 {
		return nil, errors.New("more than one JSON value")
	}
	if !known {
		return nil, errors.New("no tree_info: not the JSON of Booster.dump_model")
	}
	if err := h.apply(d.b.e); err != nil {
		return nil, err
	}
	return d.b.ensemble()
}

// object reads an object and calls field before each value; field must read the value.
func (d *dump) object(field func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		if err := field(key); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d *dump) delim(want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%.40q at byte %d: want %q", fmt.Sprint(t), d.InputOffset(), want.String())
	}
	return nil
}

func (d *dump) skip() error {
	var v json.RawMessage
	return d.Decode(&v)
}

func (d *dump) trees() error {
	if err := d.delim('['); err != nil {
		return err
	}
	for d.More() {
		tree := &draft{}
		err := d.object(func(key string) error {
			if key == "tree_structure" {
				_, err := d.node(tree, 0)
				return err
			}
			return d.skip()
		})
		if err != nil {
			return fmt.Errorf("tree %d: %w", d.b.e.AllTrees(), err)
		}
		if err := d.b.add(tree); err != nil {
			return err
		}
	}
	return d.delim(']')
}

// dumped is a node of the JSON: a split, or a leaf.
type dumped struct {
	feature     int
	threshold   json.RawMessage
	decision    string
	defaultLeft bool
	missing     string
	value       *float64
	left, right int
	split, leaf int
}

// node reads a node with everything below it and returns its index among the branches. A node comes before its
// children, so the root is branch 0.
func (d *dump) node(tree *draft, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("deeper than %d splits", maxDepth)
	}
	if len(d.b.e.nodes)+len(tree.branches) >= maxNodes {
		return 0, fmt.Errorf("more than %d nodes in all", maxNodes)
	}
	at := len(tree.branches)
	tree.branches = append(tree.branches, branch{})
	n := dumped{left: -1, right: -1, feature: -1}
	err := d.object(func(key string) (err error) {
		switch key {
		case "split_index":
			return d.Decode(&n.split)
		case "leaf_index":
			return d.Decode(&n.leaf)
		case "split_feature":
			return d.Decode(&n.feature)
		case "threshold":
			return d.Decode(&n.threshold)
		case "decision_type":
			return d.Decode(&n.decision)
		case "default_left":
			return d.Decode(&n.defaultLeft)
		case "missing_type":
			return d.Decode(&n.missing)
		case "leaf_value":
			return d.Decode(&n.value)
		case "leaf_const", "leaf_coeff", "leaf_features":
			return errLinear
		case "left_child":
			n.left, err = d.node(tree, depth+1)
			return err
		case "right_child":
			n.right, err = d.node(tree, depth+1)
			return err
		}
		return d.skip()
	})
	if err != nil {
		return 0, err
	}
	br, err := d.branch(&n)
	if err != nil {
		return 0, err
	}
	tree.branches[at] = br
	return at, nil
}

func (d *dump) branch(n *dumped) (branch, error) {
	if n.left < 0 && n.right < 0 {
		if n.value == nil {
			return branch{}, fmt.Errorf("leaf %d: no leaf_value", n.leaf)
		}
		return branch{kind: kindLeaf, value: *n.value, label: n.leaf, leafLabel: true}, nil
	}
	fail := func(format string, args ...any) (branch, error) {
		return branch{}, fmt.Errorf("node %d: %w", n.split, fmt.Errorf(format, args...))
	}
	if n.left < 0 || n.right < 0 {
		return fail("one child: want two")
	}
	var br branch
	switch n.decision {
	case "<=":
		missing, ok := map[string]lightGBMMissing{"None": missingNone, "Zero": missingZero, "NaN": missingNaN}[n.missing]
		if !ok {
			return fail("missing_type %.40q: want None, Zero or NaN", n.missing)
		}
		var t *float64
		if err := json.Unmarshal(n.threshold, &t); err != nil || t == nil {
			return fail("threshold %.40q: want a number", n.threshold)
		}
		br = lightGBMSplit(*t, missing, n.defaultLeft)
	case "==":
		set, err := d.categories(n.threshold)
		if err != nil {
			return fail("%w", err)
		}
		br = branch{kind: kindSet, missingRight: true, value: float64(set)}
	default:
		return fail("decision_type %.40q: want <= or ==", n.decision)
	}
	br.feature, br.left, br.right, br.label = n.feature, n.left, n.right, n.split
	return br, nil
}

// categories reads the threshold of a categorical split, such as "1||4||9".
func (d *dump) categories(raw json.RawMessage) (int, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, fmt.Errorf("threshold %.40q: want categories", raw)
	}
	var list []int
	if text != "" {
		for _, word := range strings.Split(text, "||") {
			c, err := strconv.Atoi(word)
			if err != nil {
				return 0, fmt.Errorf("threshold %.40q: %.40q is not a category", text, word)
			}
			list = append(list, c)
		}
	}
	return d.b.categories(list)
}
