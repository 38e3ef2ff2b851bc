package trees

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ReadLightGBM reads the output of LightGBM's Booster.save_model (text, versions v3 and v4) or the JSON of
// Booster.dump_model. It accepts only two-class models whose score is a sum of trees under a logistic link: objective
// binary or cross_entropy, one tree per iteration, constant leaves. It uses all trees of the file; save_model omits
// those after best_iteration. A categorical input is the code that the category had in training.
//
// The rules are those of LightGBM 4 in include/LightGBM/tree.h (Tree::NumericalDecision, Tree::CategoricalDecision) and
// src/boosting/gbdt_prediction.cpp; LightGBM 3 has the same.
func ReadLightGBM(r io.Reader) (*Ensemble, error) {
	raw, err := readAll(r)
	if err == nil {
		return lightGBM(raw, false)
	}
	return nil, fmt.Errorf("lightgbm model: %w", err)
}

func parseLightGBM(raw []byte) (*Ensemble, error) {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if bytes.HasPrefix(raw, []byte("{")) {
		return parseLightGBMDump(raw)
	}
	return parseLightGBMText(string(raw))
}

// lightGBMHeader holds what both formats say about a model as a whole.
type lightGBMHeader struct {
	version               string
	classes, treesPerIter int
	objective             string
	average               bool
	features              []string
	maxFeature            int
}

// apply checks the header and copies the relevant parts to the ensemble.
func (h *lightGBMHeader) apply(e *Ensemble) error {
	if h.version != "v3" && h.version != "v4" {
		return fmt.Errorf("version %q: want v3 or v4, which LightGBM 2.3 and later write", h.version)
	}
	if h.classes != 1 || h.treesPerIter != 1 {
		return fmt.Errorf("num_class %d, num_tree_per_iteration %d: want a model of two classes, with 1 and 1", h.classes, h.treesPerIter)
	}
	if len(h.features) != h.maxFeature+1 {
		return fmt.Errorf("%d feature_names: max_feature_idx %d wants %d", len(h.features), h.maxFeature, h.maxFeature+1)
	}
	if err := checkNames(h.features); err != nil {
		return err
	}
	sigmoid, err := lightGBMSigmoid(h.objective)
	if err != nil {
		return err
	}
	e.names, e.sigmoid, e.average = h.features, sigmoid, h.average
	return nil
}

// lightGBMSigmoid returns the slope of the objective's link. BinaryLogloss writes "binary sigmoid:1", CrossEntropy only
// its name (its link has slope 1); the aliases are those of ParseObjectiveAlias.
func lightGBMSigmoid(objective string) (float64, error) {
	words := strings.Fields(objective)
	if len(words) == 0 || words[0] == "custom" {
		return 0, errors.New("no objective: a model with a custom loss does not define how its sum becomes a probability")
	}
	switch words[0] {
	case "cross_entropy", "xentropy":
		return 1, nil
	case "binary":
		for _, w := range words[1:] {
			if s, ok := strings.CutPrefix(w, "sigmoid:"); ok {
				k, err := strconv.ParseFloat(s, 64)
				if err != nil || !(k > 0) || math.IsInf(k, 0) {
					return 0, fmt.Errorf("objective %q: sigmoid wants a finite number > 0", objective)
				}
				return k, nil
			}
		}
		return 0, fmt.Errorf("objective %q: no sigmoid", objective)
	}
	return 0, fmt.Errorf("objective %q: want binary or cross_entropy, whose scores are probabilities", objective)
}

// lightGBMMissing is what a numerical split treats as missing: LightGBM's MissingType.
type lightGBMMissing int

const (
	missingNone lightGBMMissing = iota
	missingZero
	missingNaN
)

// lightGBMSplit expresses a numerical split under LightGBM's rules as a node:
//
//   - missing type None: NaN counts as 0, so a missing value goes where 0 goes;
//   - Zero: NaN counts as 0, and 0 is missing: both go the default way;
//   - NaN: a missing value goes the default way.
func lightGBMSplit(threshold float64, m lightGBMMissing, defaultLeft bool) branch {
	b := branch{kind: kindNumber, value: lightGBMThreshold(threshold), missingRight: !defaultLeft}
	switch m {
	case missingNone:
		b.missingRight = !(threshold >= 0)
	case missingZero:
		b.kind = kindNumberZero
	case missingNaN:
	}
	return b
}

// lightGBMThreshold reproduces what the library does before any tree sees a row: values within kZeroThreshold of zero
// become zero (RowPairFunctionFromDenseMatric in src/c_api.cpp and the file readers). With the threshold moved out of
// that range, all its values fall on the side of zero without being rounded.
func lightGBMThreshold(t float64) float64 {
	switch {
	case t >= 0 && t < lightGBMZero:
		return lightGBMZero
	case t < 0 && t >= -lightGBMZero:
		return math.Nextafter(-lightGBMZero, math.Inf(-1))
	}
	return t
}

// checkPandas refuses a model trained on categories of a data frame, unless each category equals its code. The library
// replaces a category by its index in these lists before it splits on it; this package does not.
func checkPandas(raw json.RawMessage) error {
	var lists [][]json.RawMessage
	if err := json.Unmarshal(raw, &lists); err != nil {
		return fmt.Errorf("pandas_categorical %.40q: want lists of categories", raw)
	}
	for _, categories := range lists {
		for code, c := range categories {
			if v, err := strconv.ParseFloat(string(c), 64); err != nil || v != float64(code) {
				return fmt.Errorf("it encodes categories of a data frame (pandas_categorical has %.40q for %d), and features here are numbers: train on numbers", c, code)
			}
		}
	}
	return nil
}
