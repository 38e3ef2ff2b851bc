package trees

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// xgboostAttributes are attributes that the Python, R and JVM packages add to a model. They are strings in the file.
type xgboostAttributes struct {
	// BestIteration is the round, from 0, with the best score before an early stop. BestNTreeLimit is the number of
	// trees up to it; XGBoost 1 writes both.
	BestIteration  *string `json:"best_iteration"`
	BestNTreeLimit *string `json:"best_ntree_limit"`
	// ScikitLearn holds parameters of XGBClassifier as JSON; XGBoost 2 and later omit most of them.
	ScikitLearn *string `json:"scikit_learn"`
}

// errAllTrees is the advice if the file does not clearly define which trees to use.
var errAllTrees = errors.New("save the trees that you use, with booster[:n].save_model, or import with --all-trees")

// best returns how many trees XGBClassifier.predict_proba uses after an early stop; 0 means all. Booster.predict uses
// all trees of the same file.
func (a *xgboostAttributes) best(m *xgboostModel, trees int) (int, error) {
	var limit int
	if s := a.BestNTreeLimit; s != nil {
		var err error
		if limit, err = strconv.Atoi(*s); err != nil || limit < 1 || limit > trees {
			return 0, fmt.Errorf("best_ntree_limit %.40q: want 1 to %d, the trees of the file: %w", *s, trees, errAllTrees)
		}
	}
	if a.BestIteration == nil {
		return limit, nil
	}
	best, err := strconv.Atoi(*a.BestIteration)
	if err != nil || best < 0 {
		return 0, fmt.Errorf("best_iteration %.40q: want a round, from 0: %w", *a.BestIteration, errAllTrees)
	}
	used, err := m.treesTo(best, trees)
	switch {
	case errors.Is(err, errRoundSize) && limit > 0:
		return limit, nil
	case err != nil:
		return 0, err
	case limit > 0 && limit != used:
		return 0, fmt.Errorf("best_iteration %d means %d trees, but best_ntree_limit is %d: %w", best, used, limit, errAllTrees)
	}
	return used, nil
}

// errRoundSize is returned for a file that does not give the number of trees per round.
var errRoundSize = errors.New("the file does not give the number of trees per round (num_parallel_tree)")

// treesTo returns the number of trees up to and including a round, from iteration_indptr (since XGBoost 2.1) or
// num_parallel_tree trees a round (since 1.4).
func (m *xgboostModel) treesTo(round, trees int) (int, error) {
	var rounds, to int
	if ends := m.IterationEnds; len(ends) > 0 {
		for i, end := range ends {
			if i == 0 && end != 0 || i > 0 && end < ends[i-1] || end > trees {
				return 0, fmt.Errorf("iteration_indptr %d is %d: want ascending numbers from 0 to %d: %w", i, end, trees, errAllTrees)
			}
		}
		rounds = len(ends) - 1
		if round < rounds {
			to = ends[round+1]
		}
	} else {
		per, err := strconv.Atoi(m.Param.NumParallelTree)
		if err != nil || per < 1 {
			return 0, fmt.Errorf("best_iteration is %d, but %w: %w", round, errRoundSize, errAllTrees)
		}
		rounds = trees / per
		if round < rounds {
			to = (round + 1) * per
		}
	}
	if round >= rounds || to < 1 {
		return 0, fmt.Errorf("best_iteration is %d, but the file has %d rounds: %w", round, rounds, errAllTrees)
	}
	return to, nil
}

// checkMissing refuses an XGBClassifier model that treats a number as missing: feature vectors use NaN.
func (a *xgboostAttributes) checkMissing() error {
	var p struct {
		Missing json.RawMessage `json:"missing"`
	}
	if a.ScikitLearn == nil {
		return nil
	}
	if err := json.Unmarshal(quoteNaN([]byte(*a.ScikitLearn)), &p); err != nil {
		return nil //nolint:nilerr // another program wrote it; XGBoost does not read it either
	}
	switch m := string(p.Missing); m {
	case "", "null", `"N"`:
		return nil
	default:
		return fmt.Errorf("trained with missing=%.20s, which means a value here: train with missing=nan", p.Missing)
	}
}
