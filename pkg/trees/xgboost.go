package trees

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// xgboostFile holds the parts of the JSON that are used. Its parameters are strings, even numbers.
type xgboostFile struct {
	Learner *struct {
		Attributes      xgboostAttributes `json:"attributes"`
		FeatureNames    []string          `json:"feature_names"`
		GradientBooster xgboostBooster    `json:"gradient_booster"`
		ModelParam      xgboostParam      `json:"learner_model_param"`
		Objective       xgboostObjective  `json:"objective"`
	} `json:"learner"`
}

type xgboostObjective struct {
	Name string `json:"name"`
}

type xgboostParam struct {
	BaseScore  json.RawMessage `json:"base_score"`
	NumClass   string          `json:"num_class"`
	NumFeature string          `json:"num_feature"`
	NumTarget  string          `json:"num_target"`
}

type xgboostBooster struct {
	Name  string       `json:"name"`
	Model xgboostModel `json:"model"`
	// GBTree and WeightDrop are for dart, which wraps a gbtree.
	GBTree *struct {
		Model xgboostModel `json:"model"`
	} `json:"gbtree"`
	WeightDrop floats `json:"weight_drop"`
}

type xgboostModel struct {
	Param struct {
		NumTrees        string `json:"num_trees"`
		NumParallelTree string `json:"num_parallel_tree"`
	} `json:"gbtree_model_param"`
	// IterationEnds are the indexes of the first tree of each round, and the end of the last round.
	IterationEnds []int           `json:"iteration_indptr"`
	TreeInfo      []int           `json:"tree_info"`
	Trees         json.RawMessage `json:"trees"`
	// Categories maps the categories of a data frame to the codes that the trees split on, since XGBoost 3.1.
	Categories struct {
		Encoders []json.RawMessage `json:"enc"`
	} `json:"cats"`
}

// parseXGBoost reads the JSON or UBJSON of XGBoost's Booster.save_model. It accepts only two-class models whose
// score is a sum of trees under a logistic link: booster gbtree or dart, objective binary:logistic or reg:logistic, one
// output.
//
// After an early stop it uses the trees up to best_iteration, as XGBClassifier.predict_proba does; [ImportAll] uses all
// of them, as Booster.predict does. Missing values are NaN, the default of DMatrix; a model that XGBClassifier trained
// with another choice is refused. A categorical input is the code that the category had in training.
//
// The format is described in doc/model.schema of XGBoost 1.0 to 3; the rules come from src/predictor (predict_fn.h,
// cpu_predictor.cc), src/common/categorical.h, src/objective/regression_loss.h and src/gbm/gbtree.cc.
func parseXGBoost(raw []byte, all bool) (*Ensemble, error) {
	if isUBJSON(raw) {
		var err error
		if raw, err = fromUBJSON(raw); err != nil {
			return nil, err
		}
	}
	raw = quoteNaN(raw)
	var f xgboostFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, jsonError(raw, err)
	}
	if f.Learner == nil {
		return nil, errors.New("no learner: not the JSON of Booster.save_model (the JSON of dump_model and get_dump lacks the objective and base_score)")
	}
	l := f.Learner
	if o := l.Objective.Name; o != "binary:logistic" && o != "reg:logistic" {
		return nil, fmt.Errorf("objective %.40q: want binary:logistic or reg:logistic, whose scores are probabilities", o)
	}
	b := newBuilder(XGBoost)
	if err := l.ModelParam.apply(b.e, l.FeatureNames); err != nil {
		return nil, err
	}
	model, weights := &l.GradientBooster.Model, floats(nil)
	switch l.GradientBooster.Name {
	case "gbtree":
	case "dart":
		if l.GradientBooster.GBTree == nil {
			return nil, errors.New("booster dart without its gbtree")
		}
		// Not nil even if empty: a dart booster without weights has no weight for any tree.
		model, weights = &l.GradientBooster.GBTree.Model, append(floats{}, l.GradientBooster.WeightDrop...)
	default:
		return nil, fmt.Errorf("booster %.40q: want gbtree or dart", l.GradientBooster.Name)
	}
	if len(model.Categories.Encoders) > 0 {
		return nil, errors.New("it encodes categories of a data frame (cats), but features here are numbers: train on numbers")
	}
	if err := l.Attributes.checkMissing(); err != nil {
		return nil, err
	}
	if err := b.xgboostTrees(model, weights); err != nil {
		return nil, err
	}
	e, err := b.ensemble()
	if err != nil || all {
		return e, err
	}
	if best, err := l.Attributes.best(model, e.AllTrees()); err != nil {
		return nil, err
	} else if best > 0 {
		return e.First(best)
	}
	return e, nil
}

// apply checks the learner's parameters and copies names and base to the ensemble.
func (p *xgboostParam) apply(e *Ensemble, names []string) error {
	features, err := strconv.Atoi(p.NumFeature)
	if err != nil || features < 1 || features > maxFeatures {
		return fmt.Errorf("num_feature %.40q: want 1 to %d", p.NumFeature, maxFeatures)
	}
	if p.NumClass != "" && p.NumClass != "0" && p.NumClass != "1" {
		return fmt.Errorf("num_class %.40q: want a two-class model, with 0", p.NumClass)
	}
	if p.NumTarget != "" && p.NumTarget != "1" {
		return fmt.Errorf("num_target %.40q: want a model with one output", p.NumTarget)
	}
	if len(names) == 0 { // trained on a plain array
		for i := range features {
			names = append(names, "f"+strconv.Itoa(i))
		}
	}
	if len(names) != features {
		return fmt.Errorf("%d feature_names: num_feature needs %d", len(names), features)
	}
	if err := checkNames(names); err != nil {
		return err
	}
	e.names = names
	e.base, err = p.margin()
	return err
}

// margin returns base_score, a probability, in log-odds: LogisticRegression::ProbToMargin, in float32. Until XGBoost
// 3.0 the file has "5E-1", since 3.1 "[5E-1]" with a value per output.
func (p *xgboostParam) margin() (float32, error) {
	text := strings.Trim(string(p.BaseScore), `"`)
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
		if strings.Contains(text, ",") {
			return 0, fmt.Errorf("base_score %.60q: want one value", p.BaseScore)
		}
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 32)
	s := float32(v)
	if err != nil || !(s > 0 && s < 1) {
		return 0, fmt.Errorf("base_score %.60q: want a probability between 0 and 1", p.BaseScore)
	}
	m := -float32(math.Log(float64(1/s - 1)))
	if !(math.Abs(float64(m)) <= maxLeaf) { // 1/s is infinite below about 3e-39
		return 0, fmt.Errorf("base_score %.60q: base margin %v: want a number within %.3g", p.BaseScore, m, float64(maxLeaf))
	}
	return m, nil
}
