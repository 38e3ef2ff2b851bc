package experiment

import (
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

// Foreign is a model that was trained by another program.
type Foreign struct {
	// Raw is the file of a LightGBM or XGBoost model.
	Raw []byte
	// Schema is the feature schema of its inputs.
	Schema *feature.Schema
	// Name and Version are the model's name and version in the registry.
	Name, Version string
	// AllTrees also uses the trees after an early stop.
	AllTrees bool
	// Label is the rule of the built-in label that the model is evaluated with on market data. Zero fields mean the default.
	Label label.Rule
	// TrainedTo is the end of its training data, exclusive. It is zero if unknown.
	TrainedTo time.Time
	// Baseline is the baseline for data without labels, which cannot fit one; nil fits a baseline.
	Baseline *model.Baseline
}

// artifact returns an artifact that can score, and the trees from the file.
func (f Foreign) artifact(of model.Label, baseline *model.Baseline) (*model.Artifact, *trees.Ensemble, error) {
	spec, read, err := model.NewTrees(f.Raw, f.Schema, of, f.AllTrees)
	if err != nil {
		return nil, nil, err
	}
	a := &model.Artifact{Baseline: baseline, Spec: spec, Ensemble: f.Raw, Schema: f.Schema}
	err = a.Open()
	return a, read, err
}

// sampled builds the artifact of a foreign model from rows without labels: golden vectors and the drift profile, but no
// evaluation.
func (f Foreign) sampled(data *Data, git string) (*model.Artifact, error) {
	if f.Baseline == nil {
		return nil, errors.New("the rows have no labels to fit a baseline to: name the label column, or give the baseline that production uses")
	}
	t := data.Table
	a, _, err := f.artifact(model.Label{HorizonMinutes: t.Info.HorizonMinutes}, f.Baseline)
	if err != nil {
		return nil, err
	}
	rows := make([]int, t.Len())
	for i := range rows {
		rows[i] = i
	}
	a.Golden.Vectors = golden(t, rows, f.Schema, a.Scorer)
	s := &Study{Data: data, Frame: t}
	if a.Reference, err = s.reference(f.Schema, a.Scorer, train.Window{TrainTo: t.Day(t.Len()-1) + 1}); err != nil {
		return nil, fmt.Errorf("drift profile: %w", err)
	}
	a.Manifest = model.Manifest{
		Name: f.Name, Version: f.Version,
		Training: model.Training{Data: data.Symbol, DataDigest: data.Digest(), End: f.TrainedTo, Git: git},
		Card: fmt.Sprintf("Trees on schema %s, trained elsewhere. It was not evaluated: the rows that it came with have no labels. Its drift profile is of the %d rows of %s.",
			f.Schema.Name, t.Len(), data.Symbol),
	}
	return a, nil
}

// Import builds the artifact of a foreign model. The baseline, the label threshold and the drift profile come from the
// newest training window of the experiment, the golden vectors from its held-out period. The artifact contains the
// evaluation, which Import also returns. It covers all test days that are not before TrainedTo. If TrainedTo is unknown, it
// covers all test days and notes that the model may have been trained on them.
func (s *Study) Import(f Foreign, git string, now time.Time) (*model.Artifact, *OfflineReport, error) {
	fold := last(s.Baseline)
	if heldOut := dayTime(fold.TestFrom); f.TrainedTo.After(heldOut) {
		return nil, nil, fmt.Errorf("the model was trained to %s, but the held-out period of this data begins on %s: give data that continues for at least a week after the training",
			f.TrainedTo.UTC().Format(time.DateOnly), heldOut.Format(time.DateOnly))
	}
	heuristic, err := newHeuristic(fold)
	if err != nil {
		return nil, nil, err
	}
	a, read, err := f.artifact(s.label(fold), heuristic)
	if err != nil {
		return nil, nil, err
	}
	a.Golden.Vectors = golden(s.Frame, fold.Minute, f.Schema, a.Scorer)
	r, err := s.evaluate(f, a, now)
	if err != nil {
		return nil, nil, fmt.Errorf("evaluate %s on %s: %w", f.Version, s.Data.Name, err)
	}
	measured := r.Metrics
	if a.Reference, err = s.reference(f.Schema, a.Scorer, fold.Window); err != nil {
		return nil, nil, fmt.Errorf("drift profile: %w", err)
	}
	stopped := ""
	if read.Trees() < read.AllTrees() {
		stopped = fmt.Sprintf("Its training was stopped early (best_iteration): it uses the first %d of the file's %d trees. ", read.Trees(), read.AllTrees())
	}
	known := "Its training data is not known, so the evaluation below may not be out of time."
	if !f.TrainedTo.IsZero() {
		known = "It was trained to " + f.TrainedTo.UTC().Format(time.DateOnly) + ", so the evaluation below is out of time."
	}
	a.Manifest = model.Manifest{
		Name: f.Name, Version: f.Version,
		Training: model.Training{
			Data: s.Data.Symbol, DataDigest: s.Data.Digest(), Simulated: s.Data.Simulated, End: f.TrainedTo, Git: git,
		},
		Evaluation: model.Evaluation{
			AUC: measured.AUC, PrecisionAt20: measured.PrecisionAt20, BaseRate: measured.BaseRate, Rows: measured.N, Folds: len(r.Folds),
			Seed: eval.DefaultBootstrap().Seed,
		},
		Card: fmt.Sprintf("Trees on schema %s, trained elsewhere. %s%s On %s, UTC days %s to %s (%d rows, base rate %.3f): AUC %.3f, "+
			"P@20 %.3f. Baseline, label threshold and drift profile come from this data.",
			f.Schema.Name, stopped, known, s.Data.Symbol, r.Folds[0].TestFirst, r.Folds[len(r.Folds)-1].TestLast,
			measured.N, measured.BaseRate, measured.AUC, measured.PrecisionAt20),
	}
	return a, r, s.own(a, r)
}

// evaluate measures an imported model and the baseline on the test rows of the experiment. Each fold uses the label threshold
// of its training window.
func (s *Study) evaluate(f Foreign, a *model.Artifact, now time.Time) (*OfflineReport, error) {
	from := 0
	if !f.TrainedTo.IsZero() {
		from = int((f.TrainedTo.Unix() + 86400 - 1) / 86400)
	}
	row := make([]float64, f.Schema.Len())
	var folds []eval.Fold
	var tested []eval.Sample
	var theirs eval.Sample
	for _, fold := range s.Baseline.Folds {
		test := eval.Fold{
			TrainFrom: fold.TrainFrom, TrainTo: fold.TrainTo, TestFrom: max(fold.TestFrom, from), TestTo: fold.TestTo,
			TrainRows: fold.TrainRows, Threshold: fold.Threshold,
		}
		var x []float64
		for i, minute := range fold.Minute {
			if fold.OutOfTime.Days[i] < from || !s.Frame.Row(minute, f.Schema, row) {
				continue
			}
			x = append(x, row...)
			test.Sample.Labels = append(test.Sample.Labels, fold.OutOfTime.Labels[i])
			test.Sample.Days = append(test.Sample.Days, fold.OutOfTime.Days[i])
			theirs.Scores = append(theirs.Scores, fold.OutOfTime.Scores[i])
		}
		test.Sample.Scores = make([]float64, len(test.Sample.Labels))
		a.Scorer.Scores(test.Sample.Scores, x)
		if test.Sample.Len() > 0 {
			folds, tested = append(folds, test), append(tested, test.Sample)
		}
	}
	ours := eval.Pool(tested...)
	theirs.Labels, theirs.Days = ours.Labels, ours.Days
	measured, err := eval.NewReport(folds, eval.DefaultBootstrap())
	if err != nil {
		return nil, err
	}
	if measured.Comparison, err = eval.Compare(ours, theirs, eval.DefaultBootstrap()); err != nil && !errors.Is(err, eval.ErrTooFewDays) {
		return nil, err
	}
	baseline, err := eval.Measure(theirs)
	if err != nil {
		return nil, err
	}
	r := s.report(f.Version, f.Schema, measured, ours.Days, now)
	r.Compared = []ComparedModel{
		{BaselineVersion, baseline.AUC, baseline.PrecisionAt20, 1},
		{f.Version, measured.AUC, measured.PrecisionAt20, eval.MatchRate(ours.Scores, theirs.Scores, gate.MatchTolerance)},
	}
	if f.TrainedTo.IsZero() {
		r.InSample = "the end of the model's training is not known: give --trained-to"
	}
	return r, nil
}
