package trees

import (
	"errors"
	"fmt"
	"math"
)

// Validate returns an error if the ensemble is unusable. The readers call it, so every ensemble that they return is
// valid. Nodes are numbered breadth first as stored here, not as in the file.
func (e *Ensemble) Validate() error {
	if e.format != LightGBM && e.format != XGBoost {
		return fmt.Errorf("format %q: want %q or %q", e.format, LightGBM, XGBoost)
	}
	if err := checkNames(e.names); err != nil {
		return err
	}
	if !(e.sigmoid > 0) || math.IsInf(e.sigmoid, 0) {
		return fmt.Errorf("sigmoid %v: want a finite number > 0", e.sigmoid)
	}
	if b := float64(e.base); !(math.Abs(b) <= maxLeaf) {
		return fmt.Errorf("base margin %v: want a number within %.3g", b, float64(maxLeaf))
	}
	if len(e.roots) < 2 {
		return errors.New("no trees")
	}
	if len(e.columns) == 0 || e.columns[0].kind != kindLeaf || len(e.steps) != len(e.roots)-1 {
		return errors.New("no column of leaves, or a tree without steps")
	}
	if e.used < 1 || e.used > e.AllTrees() {
		return fmt.Errorf("the model uses %d trees, but has %d", e.used, e.AllTrees())
	}
	if e.roots[0] != 0 || int(e.roots[len(e.roots)-1]) != len(e.nodes) {
		return fmt.Errorf("the trees do not cover the %d nodes", len(e.nodes))
	}
	for i, s := range e.sets {
		if int(s.start)+int(s.length) > len(e.words) {
			return fmt.Errorf("category set %d reaches past the %d words", i, len(e.words))
		}
	}
	for t := range e.AllTrees() {
		if err := e.validateTree(t); err != nil {
			return fmt.Errorf("tree %d: %w", t, err)
		}
	}
	return nil
}

// validateTree relies on the breadth-first order: the children of the k-th split are the nodes 2k+1 and 2k+2. So a walk
// only goes forward, and every node has one parent.
func (e *Ensemble) validateTree(t int) error {
	start, end := e.roots[t], e.roots[t+1]
	if start >= end {
		return errors.New("no nodes")
	}
	next := start + 1
	for i := start; i < end; i++ {
		n := &e.nodes[i]
		if i >= next {
			return fmt.Errorf("node %d: no parent", i-start)
		}
		if n.at == 0 {
			if n.left != i {
				return fmt.Errorf("node %d: a leaf with the child %d", i-start, n.left-start)
			}
			if err := checkLeaf(n.value()); err != nil {
				return fmt.Errorf("node %d: %w", i-start, err)
			}
			continue
		}
		if n.left != next || next+2 > end {
			return fmt.Errorf("node %d: children are not the nodes %d and %d", i-start, next-start, next-start+1)
		}
		next += 2
		if err := e.validateSplit(n); err != nil {
			return fmt.Errorf("node %d: %w", i-start, err)
		}
	}
	return nil
}

func (e *Ensemble) validateSplit(n *node) error {
	if int(n.at) >= lanes*len(e.columns) || n.at%lanes != 0 {
		return fmt.Errorf("key %d: the model has %d columns", n.at, len(e.columns))
	}
	switch c := e.columns[n.at/lanes]; {
	case c.kind > kindSet:
		return fmt.Errorf("kind %d: not known", c.kind)
	case c.input < 0 || c.input >= e.width:
		return fmt.Errorf("feature %d is not among the %d of the model", c.input, e.width)
	case c.kind == kindSet && (n.key < 0 || n.key >= int64(len(e.sets))):
		return fmt.Errorf("category set %d is not among the %d of the model", n.key, len(e.sets))
	case c.kind != kindSet && (n.key < keyOf(math.Inf(-1)) || n.key > keyOf(math.Inf(1))):
		return errors.New("threshold is not a number")
	}
	return nil
}

func checkNames(names []string) error {
	if len(names) == 0 || len(names) > maxFeatures {
		return fmt.Errorf("%d features: want 1 to %d", len(names), maxFeatures)
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		if name == "" {
			return fmt.Errorf("feature %d has no name", i)
		}
		if seen[name] {
			return fmt.Errorf("feature name %q: given twice", name)
		}
		seen[name] = true
	}
	return nil
}
