package trees

import (
	"fmt"
	"io"
	"math"
)

// MaxFile is the limit of a file, in bytes, before and after it is unpacked.
const MaxFile = 64 << 20

// A model comes from elsewhere: what it may cost is bounded before it is believed. The bounds leave room for ten times
// the largest model that would score within a request's budget.
const (
	// maxTrees and maxNodes bound an ensemble; maxDepth bounds the splits on the way to a leaf.
	maxTrees = 1 << 16
	maxNodes = 1 << 22
	maxDepth = 1 << 10
	// maxFeatures is what a node's feature index can hold.
	maxFeatures = 1 << 16
	// maxWords bounds the category sets of an ensemble, 32 categories to a word.
	maxWords = 1 << 22
	// maxCategory is XGBoost's OutOfRangeCat: from here on a float32 no longer tells integers apart.
	maxCategory = 1 << 24
	// maxLeaf keeps any sum of leaves finite, in float64 and in float32.
	maxLeaf = math.MaxFloat32 / (2 * maxTrees)
)

func readAll(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxFile)
	}
	return raw, nil
}
