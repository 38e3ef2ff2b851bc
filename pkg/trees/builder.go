package trees

import (
	"errors"
	"fmt"
	"math"
)

// draft is one tree with the numbering of its file. Branch 0 is the root.
type draft struct {
	branches []branch
	// deleted is how many branches the file marks as deleted: XGBoost's pruning leaves them behind.
	deleted int
}

// branch is a split or a leaf of a draft; value and missing have the same meaning as in a node.
type branch struct {
	kind kind
	// missingRight reports whether a missing value goes right.
	missingRight bool
	feature      int
	value        float64
	// left and right are indexes of the draft's branches.
	left, right int
	// label is the branch's number in the file, among the leaves if leafLabel is set.
	label     int
	leafLabel bool
}

func (b *branch) String() string {
	if b.leafLabel {
		return fmt.Sprintf("leaf %d", b.label)
	}
	return fmt.Sprintf("node %d", b.label)
}

// builder builds an ensemble from drafts.
type builder struct {
	e *Ensemble
	// index is the position of each branch of the current draft, or -1; queue holds the branches in order.
	index []int
	queue []visit
	// columns maps each of the ensemble's columns to its place in a group.
	columns map[column]uint32
}

type visit struct{ branch, depth int }

func newBuilder(f Format) *builder {
	return &builder{
		e:       &Ensemble{format: f, sigmoid: 1, roots: []uint32{0}, columns: []column{{kind: kindLeaf}}},
		columns: map[column]uint32{},
	}
}

// at returns the place of the column in a group. It adds a new column.
func (b *builder) at(c column) uint32 {
	at, ok := b.columns[c]
	if !ok {
		at = uint32(lanes * len(b.e.columns))
		b.columns[c] = at
		b.e.columns = append(b.e.columns, c)
	}
	return at
}

// set adds a category set and returns its number.
func (b *builder) set(words []uint32) (int, error) {
	if len(b.e.words)+len(words) > maxWords {
		return 0, fmt.Errorf("category sets of more than %d bits in all", 32*maxWords)
	}
	b.e.sets = append(b.e.sets, span{uint32(len(b.e.words)), uint32(len(words))})
	b.e.words = append(b.e.words, words...)
	return len(b.e.sets) - 1, nil
}

// categories adds a set of categories given one by one.
func (b *builder) categories(list []int) (int, error) {
	var words []uint32
	for _, c := range list {
		if c < 0 || c >= maxCategory {
			return 0, fmt.Errorf("category %d: want 0 to %d", c, maxCategory-1)
		}
		if len(b.e.words)+c/32 >= maxWords {
			return 0, fmt.Errorf("category sets of more than %d bits in all", 32*maxWords)
		}
		for c/32 >= len(words) {
			words = append(words, 0)
		}
		words[c/32] |= 1 << (c % 32)
	}
	return b.set(words)
}

// add appends a tree and checks its shape: every branch is reached exactly once, except the deleted ones.
func (b *builder) add(d *draft) error {
	tree, e := len(b.e.roots)-1, b.e
	fail := func(i int, format string, args ...any) error {
		return fmt.Errorf("tree %d %v: %w", tree, &d.branches[i], fmt.Errorf(format, args...))
	}
	if tree >= maxTrees {
		return fmt.Errorf("more than %d trees", maxTrees)
	}
	if len(d.branches) == 0 {
		return fmt.Errorf("tree %d: no nodes", tree)
	}
	if len(e.nodes)+len(d.branches) > maxNodes {
		return fmt.Errorf("tree %d: more than %d nodes in all", tree, maxNodes)
	}
	b.index = b.index[:0]
	for range d.branches {
		b.index = append(b.index, -1)
	}
	root, steps, sets := len(e.nodes), 0, false
	b.index[0] = root
	b.queue = append(b.queue[:0], visit{0, 0})
	for k := 0; k < len(b.queue); k++ {
		i, depth := b.queue[k].branch, b.queue[k].depth
		br := &d.branches[i]
		if err := b.check(br); err != nil {
			return fail(i, "%w", err)
		}
		n := node{key: int64(math.Float64bits(br.value)), left: uint32(len(e.nodes))}
		if br.kind != kindLeaf {
			if depth++; depth > maxDepth {
				return fail(i, "deeper than %d splits", maxDepth)
			}
			steps = max(steps, min(depth, maxSteps))
			n = node{key: keyOf(br.value), left: uint32(root + len(b.queue)), at: b.at(column{br.feature, br.kind, br.missingRight})}
			if br.kind == kindSet {
				n.key, sets = int64(br.value), true
			}
			for _, c := range [2]int{br.left, br.right} {
				if c < 0 || c >= len(d.branches) {
					return fail(i, "child %d is not in the tree, which has %d nodes", c, len(d.branches))
				}
				if b.index[c] >= 0 {
					return fail(i, "child %v has another parent already: a cycle, or two ways to one node", &d.branches[c])
				}
				b.index[c] = root + len(b.queue)
				b.queue = append(b.queue, visit{c, depth})
			}
		}
		e.nodes = append(e.nodes, n)
	}
	if lost := len(d.branches) - len(b.queue); lost != d.deleted {
		for i, at := range b.index {
			if at < 0 {
				return fail(i, "not reached from the root: %d such nodes, want %d", lost, d.deleted)
			}
		}
		return fmt.Errorf("tree %d: every node is reached, but %d are marked as deleted", tree, d.deleted)
	}
	e.roots = append(e.roots, uint32(len(e.nodes)))
	if sets {
		steps = 0
	}
	e.steps = append(e.steps, uint8(steps))
	return nil
}

func (b *builder) check(br *branch) error {
	if br.kind == kindLeaf {
		return checkLeaf(br.value)
	}
	if math.IsNaN(br.value) {
		return errors.New("threshold is not a number")
	}
	if features := len(b.e.names); br.feature < 0 || br.feature >= features {
		return fmt.Errorf("feature %d is not among the %d of the model", br.feature, features)
	}
	return nil
}

func checkLeaf(v float64) error {
	if !(math.Abs(v) <= maxLeaf) {
		return fmt.Errorf("leaf value %v: want a number within %.3g", v, float64(maxLeaf))
	}
	return nil
}

// ensemble returns the result.
func (b *builder) ensemble() (*Ensemble, error) {
	if b.e.AllTrees() == 0 {
		return nil, errors.New("no trees")
	}
	b.e.used, b.e.width = b.e.AllTrees(), len(b.e.names)
	return b.e, nil
}

// checkNames returns an error unless each feature has a unique name.
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
			return fmt.Errorf("feature name %q: appears twice", name)
		}
		seen[name] = true
	}
	return nil
}
