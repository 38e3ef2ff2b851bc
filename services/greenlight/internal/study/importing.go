package study

import (
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Foreign is a model that was trained elsewhere.
type Foreign struct {
	// Raw is the file of a LightGBM or XGBoost model.
	Raw []byte
	// Schema is the feature schema of its inputs.
	Schema *feature.Schema
	// Name and Version are what it is filed under.
	Name, Version string
	// AllTrees takes the trees from after an early stop too.
	AllTrees bool
	// TrainedTo is the end of its training data, exclusive; zero when that is not known.
	TrainedTo time.Time
}

// Import makes the artifact of a foreign model: the baseline, the label's threshold and the drift profile are of the
// study's newest training window, golden vectors and evaluation of its held-out period. It returns the evaluation too,
// which is out of time only as far as TrainedTo says so.
func (s *Study) Import(f Foreign, git string) (*model.Artifact, *eval.Metrics, error) {
	fold := last(s.Baseline)
	if heldOut := dayTime(fold.TestFrom); f.TrainedTo.After(heldOut) {
		return nil, nil, fmt.Errorf("the model was trained to %s, and the held-out period of this data begins on %s: give data that goes on for at least a week after the training",
			f.TrainedTo.UTC().Format(time.DateOnly), heldOut.Format(time.DateOnly))
	}
	spec, read, err := model.NewTrees(f.Raw, f.Schema, model.Label{HorizonMinutes: label.Horizon, Threshold: fold.Threshold}, f.AllTrees)
	if err != nil {
		return nil, nil, err
	}
	heuristic, err := model.NewBaseline(BaselineVersion, *fold.Model)
	if err != nil {
		return nil, nil, err
	}
	a := &model.Artifact{Baseline: heuristic, Spec: spec, Ensemble: f.Raw}
	if err := a.Open(); err != nil {
		return nil, nil, err
	}
	sample := eval.Sample{Labels: fold.OutOfTime.Labels, Days: fold.OutOfTime.Days}
	x := make([]float64, f.Schema.Len())
	step := max(1, len(fold.Minute)/goldenVectors)
	for i, minute := range fold.Minute {
		s.Frame.Row(minute, f.Schema, x)
		score := a.Scorer.Score(x)
		sample.Scores = append(sample.Scores, score)
		if i%step == 0 && len(a.Golden.Vectors) < goldenVectors {
			a.Golden.Vectors = append(a.Golden.Vectors, model.GoldenVector{X: slices.Clone(x), Score: score})
		}
	}
	measured, err := eval.Measure(sample)
	if err != nil {
		return nil, nil, fmt.Errorf("evaluate %s on %s: %w", f.Version, s.Data.Name, err)
	}
	if a.Reference, err = s.reference(f.Schema, a.Scorer, fold.Window); err != nil {
		return nil, nil, fmt.Errorf("drift profile: %w", err)
	}
	stopped := ""
	if read.Trees() < read.AllTrees() {
		stopped = fmt.Sprintf("Its training was stopped early (best_iteration): it uses the first %d of the file's %d trees. ", read.Trees(), read.AllTrees())
	}
	known := "Whether the evaluation below is out of time is not known here."
	if !f.TrainedTo.IsZero() {
		known = "It was trained to " + f.TrainedTo.UTC().Format(time.DateOnly) + ", so the evaluation below is out of time."
	}
	a.Manifest = model.Manifest{
		Name: f.Name, Version: f.Version,
		Training: model.Training{
			Data: s.Data.Symbol, DataDigest: s.Data.Digest(), Simulated: s.Data.Simulated, End: f.TrainedTo, Git: git,
		},
		Evaluation: model.Evaluation{
			AUC: measured.AUC, PrecisionAt20: measured.PrecisionAt20, BaseRate: measured.BaseRate, Rows: measured.N, Folds: 1,
		},
		Card: fmt.Sprintf("Trees on schema %s, trained elsewhere. %s%s On %s, UTC days %s to %s (%d rows, base rate %.3f): AUC %.3f, "+
			"P@20 %.3f. Baseline, label threshold and drift profile are of this data.",
			f.Schema.Name, stopped, known, s.Data.Symbol, dayTime(fold.TestFrom).Format(time.DateOnly), dayTime(fold.TestTo-1).Format(time.DateOnly),
			measured.N, measured.BaseRate, measured.AUC, measured.PrecisionAt20),
	}
	return a, &measured, nil
}
