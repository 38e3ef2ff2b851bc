package trees

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// lightGBMSigmoid returns the slope of the objective's link. BinaryLogloss writes "binary sigmoid:1", CrossEntropy only
// its name (its link has slope 1); the aliases come from ParseObjectiveAlias.
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
					return 0, fmt.Errorf("objective %q: sigmoid needs a finite number > 0", objective)
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

// lightGBMThreshold reproduces what the library does before a tree sees a row: values within kZeroThreshold of zero become
// zero (RowPairFunctionFromDenseMatric in src/c_api.cpp and the file readers). It moves the threshold out of that range, so
// that all values in the range fall on the side of zero without being rounded.
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
				return fmt.Errorf("it encodes categories of a data frame (pandas_categorical has %.40q for %d), but features here are numbers: train on numbers", c, code)
			}
		}
	}
	return nil
}
