package experiment

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/figure"
)

// RegisterError means that a candidate could not be added to the registry.
type RegisterError struct {
	Candidate *Candidate
	Err       error
}

func (e *RegisterError) Error() string { return e.Err.Error() }

// Unwrap returns the error of [model.Registry.Add].
func (e *RegisterError) Unwrap() error { return e.Err }

// Register adds every model of the study to the registry, and writes the offline report and the figures of the candidate c
// to the evidence. It returns the artifact of c and the report on c. git is the revision of the program.
func (s *Study) Register(registry *model.Registry, store *evidence.Store, c *Candidate, git string, now time.Time) (artifact *model.Artifact, report *OfflineReport, err error) {
	for _, other := range s.Candidates {
		a, r, err := s.Evaluated(other, git, now)
		if err != nil {
			return nil, nil, err
		}
		if err := registry.Add(a); err != nil {
			return nil, nil, &RegisterError{other, err}
		}
		if other == c {
			artifact, report = a, r
		}
	}
	if artifact == nil {
		return nil, nil, fmt.Errorf("%s is not a model of this study", c.Version)
	}
	if err := store.WriteJSON(model.OfflineFile, s.OfflineHeader(artifact, report), report); err != nil {
		return nil, nil, err
	}
	title := fmt.Sprintf("%s on %s, out of time", c.Version, s.Data.Name)
	if s.Data.Simulated {
		title += " (simulated)"
	}
	figures := figure.Set{Prefix: "offline/", Required: true}
	s.Draw(&figures, c, title)
	return artifact, report, figures.Write(store)
}

// Draw draws the out-of-time evaluation of the candidate: its ROC curve and the baseline's, the reliability of its
// probabilities, its scores by class, and its folds.
func (s *Study) Draw(to *figure.Set, c *Candidate, title string) {
	ours, _ := c.Pooled()
	theirs, _ := s.Baseline.Pooled()
	to.Add("roc", "ROC curve, out of time", func(w io.Writer) error {
		return plots.ROC(w, title, ours.Labels, plots.Scorer{Name: c.Version, Scores: ours.Scores}, plots.Scorer{Name: BaselineVersion, Scores: theirs.Scores})
	})
	to.Add("reliability", "Reliability, out of time", func(w io.Writer) error { return plots.Reliability(w, title, c.Report.Reliability) })
	to.Add("scores", "Scores by class, out of time", func(w io.Writer) error { return plots.Scores(w, title, ours.Scores, ours.Labels) })
	to.Add("folds", "Fold by fold", func(w io.Writer) error { return plots.Folds(w, title, c.Report) })
}

// Imported is a foreign model in the registry.
type Imported struct {
	Artifact *model.Artifact
	Report   *OfflineReport
	// Kept is the model in the registry. Known reports whether it was there before, with another evaluation.
	Kept  *model.Artifact
	Known bool
}

// Register trains the baseline on the data, evaluates the foreign model against it, and adds the model to the registry. If the
// name is empty, the model gets the name of the data.
func (f Foreign) Register(ctx context.Context, data *Data, registry *model.Registry, git string, progress func(done, total int)) (*Imported, error) {
	f.Name = cmp.Or(f.Name, data.Name)
	i := &Imported{}
	var err error
	if i.Artifact, i.Report, err = f.build(ctx, data, git, progress); err != nil {
		return nil, err
	}
	if err := registry.Add(i.Artifact); err != nil {
		return nil, err
	}
	i.Kept, err = registry.Load(f.Name + "/" + f.Version)
	if err != nil {
		return nil, err
	}
	i.Known = !bytes.Equal(i.Kept.Offline, i.Artifact.Offline)
	return i, nil
}

// build builds the artifact. The report is nil if the data has no labels.
func (f Foreign) build(ctx context.Context, data *Data, git string, progress func(done, total int)) (*model.Artifact, *OfflineReport, error) {
	var s *Study
	var err error
	switch {
	case data.Table == nil:
		s, err = Run(ctx, data, Options{Label: f.Label, Progress: progress})
	case data.Table.Info.Label == "":
		a, err := f.sampled(data, git)
		return a, nil, err
	default:
		s, _, err = runBaseline(ctx, data, 1, progress)
	}
	if err != nil {
		return nil, nil, err
	}
	return s.Import(f, git, time.Now())
}
