package experiment

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

const (
	// BaselineVersion is the version of the production heuristic.
	BaselineVersion = "heuristic-v1"
	// goldenVectors is the number of golden vectors in an artifact.
	goldenVectors = 32
)

// DefaultVersions returns the versions of the models to train, by feature schema.
func DefaultVersions() map[string]string {
	return map[string]string{"v1.8": "v1.8-b0", feature.DefaultSchema: "v1.8.1-rc1"}
}

// Study is one experiment: a set of candidates and the baseline, trained and judged on the same rows.
type Study struct {
	Data  *Data
	Frame Rows
	Split train.Split
	// Label is the rule of the label, unless the data is a table.
	Label      label.Rule
	Candidates []*Candidate
	// Baseline is the production heuristic, fitted to the same training windows.
	Baseline *train.Result
}

// Candidate is one model with its out-of-time evaluation.
type Candidate struct {
	Version string
	Schema  *feature.Schema
	*train.Result
	Report *eval.Report
	// BaselineMatch is the fraction of out-of-time rows where the candidate is within 0.05 of the baseline, in [0,1].
	BaselineMatch float64
}

// Options configures [Run].
type Options struct {
	// Versions are the versions of the models to train, by feature schema.
	Versions map[string]string
	// Label is the rule of the built-in label. Zero fields mean the default.
	Label label.Rule
	// Progress, which may be nil, is called with the number of completed folds.
	Progress func(done, total int)
}

// Run trains and judges one candidate per schema.
func Run(ctx context.Context, data *Data, opts Options) (*Study, error) {
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", data.Name, err)
	}
	inputs, err := feature.NewSchema("baseline", feature.BaselineInputs()...)
	if err != nil {
		return nil, err
	}
	walk := train.DefaultOptions()
	if walk.Label, err = opts.Label.Complete(); err != nil {
		return nil, err
	}
	walk.Split.Purge = max(walk.Split.Purge, walk.Label.Horizon)
	runs, done := len(opts.Versions)+1, 0
	walk.Progress = func(fold, folds int) {
		if opts.Progress != nil {
			opts.Progress(done*folds+fold, runs*folds)
		}
	}
	s := &Study{Data: data, Frame: frame, Split: walk.Split, Label: walk.Label}
	if s.Baseline, err = train.WalkForward(ctx, frame, inputs, walk); err != nil {
		return nil, fmt.Errorf("train the baseline on %s: %w", data.Name, err)
	}
	done++
	for _, name := range slices.Sorted(maps.Keys(opts.Versions)) {
		schema, ok := feature.Lookup(name)
		if !ok {
			return nil, fmt.Errorf("unknown feature schema %q", name)
		}
		result, err := train.WalkForward(ctx, frame, schema, walk)
		if err != nil {
			return nil, fmt.Errorf("train %s on %s: %w", opts.Versions[name], data.Name, err)
		}
		if err := s.add(opts.Versions[name], schema, result); err != nil {
			return nil, err
		}
		done++
	}
	return s, nil
}

// add judges a trained model against the baseline.
func (s *Study) add(version string, schema *feature.Schema, result *train.Result) (err error) {
	c := &Candidate{Version: version, Schema: schema, Result: result}
	if c.Report, err = c.Result.Report(eval.DefaultBootstrap()); err != nil {
		return fmt.Errorf("evaluate %s on %s: %w", version, s.Data.Name, err)
	}
	ours, _ := c.Pooled()
	theirs, _ := s.Baseline.Pooled()
	if c.Report.Comparison, err = eval.Compare(ours, theirs, eval.DefaultBootstrap()); err != nil {
		return fmt.Errorf("compare %s with the baseline on %s: %w", version, s.Data.Name, err)
	}
	c.BaselineMatch = eval.MatchRate(ours.Scores, theirs.Scores, gate.MatchTolerance)
	s.Candidates = append(s.Candidates, c)
	return nil
}

// Candidate returns the candidate with the version.
func (s *Study) Candidate(version string) (*Candidate, error) {
	var versions []string
	for _, c := range s.Candidates {
		if c.Version == version {
			return c, nil
		}
		versions = append(versions, c.Version)
	}
	return nil, fmt.Errorf("no model %q: the trained models are %v", version, versions)
}

// last returns the fold whose model is released: the one with the newest training window. Its test window is the held-out
// period.
func last(r *train.Result) *train.Fold { return &r.Folds[len(r.Folds)-1] }

// HeldOut returns the minutes after the training window of the released models at which every schema is defined. The label may
// be undefined.
func (s *Study) HeldOut() []int {
	fold := last(s.Baseline)
	var minutes []int
	widest := 0
	for _, c := range s.Candidates {
		widest = max(widest, c.Schema.Len())
	}
	x := make([]float64, widest)
	for i := range s.Frame.Len() {
		if day := s.Frame.Day(i); day < fold.TestFrom || day >= fold.TestTo {
			continue
		}
		ready := true
		for _, c := range s.Candidates {
			ready = ready && s.Frame.Row(i, c.Schema, x)
		}
		if ready {
			minutes = append(minutes, i)
		}
	}
	return minutes
}

// Artifact builds the candidate's artifact: the model and the baseline of the newest training window, and golden vectors
// from the held-out period.
func (s *Study) Artifact(c *Candidate, git string) (*model.Artifact, error) {
	fold, baseline := last(c.Result), last(s.Baseline)
	heuristic, err := newHeuristic(baseline)
	if err != nil {
		return nil, err
	}
	a := &model.Artifact{
		Baseline: heuristic, Schema: c.Schema,
		Spec: model.Spec{
			Family: "logistic", Schema: c.Schema.Name, SchemaHash: c.Schema.Hash(),
			Label:    s.label(fold),
			Logistic: fold.Model,
		},
		Manifest: model.Manifest{
			Name: s.Data.Name, Version: c.Version,
			Training: model.Training{
				Data: s.Data.Symbol, DataDigest: s.Data.Digest(), Simulated: s.Data.Simulated,
				Start: dayTime(fold.TrainFrom), End: dayTime(fold.TrainTo),
				Rows: fold.TrainRows, Git: git,
			},
			Evaluation: model.Evaluation{
				AUC: c.Report.AUC, PrecisionAt20: c.Report.PrecisionAt20, BaseRate: c.Report.BaseRate,
				Rows: c.Report.N, Folds: len(c.Folds), Seed: eval.DefaultBootstrap().Seed,
			},
			Card: s.card(c, fold),
		},
	}
	if a.Reference, err = s.reference(c.Schema, fold.Model, fold.Window); err != nil {
		return nil, fmt.Errorf("drift profile of %s: %w", c.Version, err)
	}
	a.Golden.Vectors = golden(s.Frame, fold.Minute, c.Schema, fold.Model)
	return a, nil
}

// golden returns golden vectors of the schema, evenly spaced over the rows.
func golden(frame Rows, rows []int, schema *feature.Schema, scorer model.Scorer) []model.GoldenVector {
	var vectors []model.GoldenVector
	step := max(1, len(rows)/goldenVectors)
	for i := 0; i < len(rows) && len(vectors) < goldenVectors; i += step {
		x := make([]float64, schema.Len())
		frame.Row(rows[i], schema, x)
		vectors = append(vectors, model.GoldenVector{X: x, Score: scorer.Score(x)})
	}
	return vectors
}

// newHeuristic returns the baseline of the fold.
func newHeuristic(fold *train.Fold) (*model.Baseline, error) {
	own := slices.DeleteFunc(slices.Clone(fold.Model.Features), func(name string) bool {
		_, ok := feature.Find(name)
		return ok
	})
	return model.NewBaseline(BaselineVersion, *fold.Model, own...)
}

// label returns the label of the fold's model.
func (s *Study) label(fold *train.Fold) model.Label {
	if t := s.Data.Table; t != nil {
		return model.Label{HorizonMinutes: t.Info.HorizonMinutes, Column: t.Info.Label}
	}
	l := model.Label{HorizonMinutes: float64(s.Label.Horizon), Threshold: fold.Threshold}
	if s.Label.Quantile != label.Default().Quantile { // models with the default rule keep their digests
		l.Quantile = s.Label.Quantile
	}
	return l
}

// meaning describes the score of the fold's model.
func (s *Study) meaning(fold *train.Fold) string {
	if t := s.Data.Table; t != nil {
		return fmt.Sprintf("the probability of %s, a label of the data's own that looks %v minutes ahead", t.Info.Label, t.Info.HorizonMinutes)
	}
	return fmt.Sprintf("the probability that the range of mid over the next %d minutes exceeds %.4g sigma_ref sqrt(%d), a label about the size of a move and not its direction",
		s.Label.Horizon, fold.Threshold, s.Label.Horizon)
}

func (s *Study) card(c *Candidate, fold *train.Fold) string {
	origin := "real market data"
	switch {
	case s.Data.Table != nil:
		origin = "a table of features and labels"
	case s.Data.Simulated:
		origin = "simulated data: it says nothing about any market"
	}
	return fmt.Sprintf("Logistic regression on schema %s. Score: %s. Trained on %s (%s), UTC days %s to "+
		"%s. Out of time over %d folds (%d rows, base rate %.3f): AUC %.3f, P@20 %.3f. P@20 follows the base rate; compare "+
		"it only at like base rates.",
		c.Schema.Name, s.meaning(fold), s.Data.Symbol, origin,
		dayTime(fold.TrainFrom).Format(time.DateOnly), dayTime(fold.TrainTo-1).Format(time.DateOnly),
		len(c.Folds), c.Report.N, c.Report.BaseRate, c.Report.AUC, c.Report.PrecisionAt20)
}

func dayTime(day int) time.Time { return time.Unix(int64(day)*86400, 0).UTC() }
