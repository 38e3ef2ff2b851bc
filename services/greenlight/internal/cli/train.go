package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// DefaultModel is the model under trial unless --model says otherwise.
const DefaultModel = "v1.8.1-rc1"

// trainFlags say what to train and where to keep it.
type trainFlags struct {
	data     DataFlags
	models   string
	model    string
	versions map[string]string
}

func (t *trainFlags) declare(fs *pflag.FlagSet) {
	t.data.Declare(fs)
	fs.StringVar(&t.model, "model", DefaultModel, "version of the model under trial: the one that the report is about")
	fs.StringToStringVar(&t.versions, "versions", experiment.DefaultVersions(), "version of the model to train, by feature schema")
}

// trained is the models of a study, in the registry.
type trained struct {
	*experiment.Study

	// candidate is the model under trial, artifact its files.
	candidate *experiment.Candidate
	artifact  *model.Artifact
	report    *experiment.OfflineReport
}

// train loads the data, trains every model, registers them and writes offline_report.json.
func (t *trainFlags) train(ctx context.Context, c Console, store *evidence.Store) (*trained, error) {
	data, err := t.data.Load(c)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	s, err := experiment.Run(ctx, data, experiment.Options{Versions: t.versions, Progress: c.Progress("training")})
	if errors.Is(err, train.ErrTooFewDays) {
		return nil, WithHint(err, "train on at least 8 days of one-minute data; greenlight run without --data simulates 42")
	}
	if err != nil {
		return nil, err
	}
	candidate, err := s.Candidate(t.model)
	if err != nil {
		return nil, usageError{err}
	}
	result := &trained{Study: s, candidate: candidate}
	registry := model.OpenRegistry(t.models)
	for _, other := range s.Candidates {
		a, report, err := s.Evaluated(other, Revision(), time.Now())
		if err != nil {
			return nil, err
		}
		if err := registry.Add(a); errors.Is(err, model.ErrExists) {
			return nil, WithHint(err, "give the new model another version, for example --versions %s=%s-2", other.Schema.Name, other.Version)
		} else if err != nil {
			return nil, err
		}
		if other == candidate {
			result.artifact, result.report = a, report
		}
	}
	if err := store.WriteJSON(model.OfflineFile, s.OfflineHeader(result.artifact, result.report), result.report); err != nil {
		return nil, err
	}
	figures, err := s.Figures(candidate)
	if err != nil {
		return nil, err
	}
	for _, f := range figures {
		if err := store.WriteFile(f.Name, f.SVG); err != nil {
			return nil, err
		}
	}
	c.Say("train     %s and the baseline, walk-forward over %s, in %s", text.Count(len(s.Candidates), "model"), text.Count(len(candidate.Folds), "fold"),
		time.Since(start).Round(10*time.Millisecond))
	return result, c.indented(result.report.Table)
}

func trainCommand(c Console) *cobra.Command {
	var t trainFlags
	var folder string
	cmd := &cobra.Command{
		Use: "train", Short: "Train the models and the baseline walk-forward, and register them",
		Long: `Train fits a model per feature schema and the baseline heuristic, walk-forward by UTC days, and judges them out of
time on the same rows. The models of the newest training window go to the registry folder, each with its baseline,
golden vectors, own evaluation and manifest; offline_report.json of the model under trial goes to the evidence folder.
greenlight eval gives the verdict.

What the data are like is examined first. Frozen stretches (one price for hours, a few prices, a straight line, a copy of
other minutes) are left out like holes, and more than a little of them fails the verdict.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := evidence.Open(folder, evidence.Options{})
			if err != nil {
				return err
			}
			result, err := t.train(cmd.Context(), c, store)
			if err != nil {
				return errors.Join(err, store.Close())
			}
			for _, other := range result.Candidates {
				c.Say("model     %s/%s/%s", t.models, result.Data.Name, other.Version)
			}
			return store.Close()
		},
	}
	t.declare(cmd.Flags())
	cmd.Flags().StringVar(&t.models, "models", "models", "registry folder")
	DeclareEvidence(cmd.Flags(), &folder)
	return cmd
}

// DeclareEvidence declares the flag of the folder of the evidence.
func DeclareEvidence(fs *pflag.FlagSet, folder *string) {
	fs.StringVar(folder, "evidence", evidence.DefaultDir, "folder of the evidence")
}

// indented prints what write writes below the stage's line.
func (c Console) indented(write func(io.Writer) error) error {
	return write(&indenter{w: c.Out, start: true})
}

// indenter puts ten blanks before every line.
type indenter struct {
	w     io.Writer
	start bool
}

// Write implements io.Writer.
func (i *indenter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+64)
	for _, b := range p {
		if i.start && b != '\n' {
			out = append(out, "          "...)
		}
		out, i.start = append(out, b), b == '\n'
	}
	if _, err := i.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
