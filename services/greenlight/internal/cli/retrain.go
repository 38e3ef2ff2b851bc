package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/retrain"
)

// retrainFlags say what to retrain on, and what becomes of it.
type retrainFlags struct {
	data     DataFlags
	log      string
	window   int
	schema   string
	version  string
	name     string
	limits   retrain.Limits
	models   string
	evidence string
}

func retrainCommand(c Console) *cobra.Command {
	r := retrainFlags{limits: retrain.DefaultLimits()}
	cmd := &cobra.Command{
		Use: "retrain", Short: "Make the next candidate from newer data: validate, train, judge, measure drift, register",
		Long: `Retrain takes the newest days of a market (--data) or of what an executor logged (--log), examines the features, trains
a candidate walk-forward, judges it by the offline gate beside the baseline on the same rows, measures the drift of
every feature from training to holdout, and registers the candidate, with its own evaluation, under the next free version.
retrain_report.json, retrain_report.md and its figures go to the evidence folder.

It exits 1, and registers nothing, when the data do not allow it: too few days, too few positives, a gap, a frozen feed, a
split, a log without prices. It exits 3 when the candidate misses the offline gate. The candidate is registered all the same, so that the
report can be checked against it: a registered model is not a released one.

A log tells prices only by mid and spread_bp, which schema v1.8 has; the label is then the range of the closing mids.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.validate(cmd.Flags().Changed); err != nil {
				return usageError{err}
			}
			store, err := evidence.Open(r.evidence, evidence.Options{})
			if err != nil {
				return err
			}
			card, err := r.retrain(cmd.Context(), c, store)
			if err = errors.Join(err, store.Close()); err != nil {
				var refusal *retrain.RefusalError
				if errors.As(err, &refusal) {
					return WithHint(err, "%s", refusal.Hint)
				}
				return err
			}
			return c.Verdict(card)
		},
	}
	fs := cmd.Flags()
	r.data.Declare(fs)
	fs.StringVar(&r.log, "log", "", "folder of a feature log, in place of --data")
	fs.IntVar(&r.window, "window", defaultWindow, "how many of the newest UTC days that have data to use; 0 is all")
	fs.StringVar(&r.schema, "schema", feature.DefaultSchema, "feature schema of the candidate")
	fs.StringVar(&r.version, "version", "", "version of the candidate; the next free release candidate of the schema when it is not given")
	fs.StringVar(&r.name, "name", "", "name to file the candidate under; that of the data when it is not given")
	fs.IntVar(&r.limits.MinDays, "min-days", r.limits.MinDays, "fewest UTC days with usable rows")
	fs.IntVar(&r.limits.MinPositives, "min-positives", r.limits.MinPositives, "fewest positive rows")
	fs.DurationVar(&r.limits.MaxGap, "max-gap", r.limits.MaxGap, "longest stretch without data")
	fs.StringVar(&r.models, "models", "models", "registry folder")
	DeclareEvidence(fs, &r.evidence)
	return cmd
}

func (r *retrainFlags) validate(changed func(string) bool) error {
	switch {
	case r.log != "" && r.data.Path != "":
		return errors.New("--log and --data: give one of them")
	case r.window < 0 || r.limits.MinDays < 0 || r.limits.MinPositives < 0 || r.limits.MaxGap < 0:
		return errors.New("--window, --min-days, --min-positives and --max-gap are 0 or more")
	}
	if r.log != "" {
		for _, flag := range []string{"seed", "days", "utc-offset", "max-bad-rows", "trades-only"} {
			if changed(flag) {
				return fmt.Errorf("--%s has no meaning with --log", flag)
			}
		}
	}
	return nil
}

// collect reads the newest days, and of a log what it had.
func (r *retrainFlags) collect(c Console) (*experiment.Data, *retrain.Log, error) {
	var data *experiment.Data
	var log *retrain.Log
	var err error
	if r.log == "" {
		data, err = r.data.Load(c)
	} else if data, log, err = retrain.FromLog(r.log, r.data.symbol, r.window); err == nil {
		c.Say("data      %s: %d rows of the feature log %s, %d minutes with a price, %d rows without; source %s", data.Symbol, log.Rows, r.log, log.Used, log.Unusable, log.Sources)
		if log.Untimely > 0 {
			c.Say("          %d rows are left out for their times: before 1973, after 2199, or more than a day ahead of their arrival or of the clock", log.Untimely)
		}
		c.Say("          labels are the %s", log.Label)
	}
	if err != nil {
		return nil, nil, err
	}
	data = retrain.Newest(data, r.window)
	if r.name != "" {
		data.Name = r.name
	}
	first, last := data.Raw[0], data.Raw[len(data.Raw)-1]
	c.Say("window    %d bars, %s to %s", len(data.Raw), clock(first.Start), clock(last.End()))
	if r.window > 0 {
		if err := c.indented(experiment.NewDataQuality(data.Quality).Lines); err != nil {
			return nil, nil, err
		}
	}
	return data, log, nil
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04") }

// fourWeeks are the days out of time that a verdict should rest on where the data have them. With the 14 days before the
// first test, and one to warm the features up, they make the default window.
const (
	fourWeeks     = 28
	defaultWindow = 14 + fourWeeks + 1
)

// retrain is the pipeline, stage by stage.
func (r *retrainFlags) retrain(ctx context.Context, c Console, store *evidence.Store) (gate.Scorecard, error) {
	none := gate.Scorecard{}
	data, log, err := r.collect(c)
	if err != nil {
		return none, err
	}
	registry := model.OpenRegistry(r.models)
	version, err := r.candidateVersion(registry, data.Name)
	if err != nil {
		return none, err
	}
	population, err := retrain.NewPopulation(data, r.schema)
	if err != nil {
		return none, err
	}
	facts, err := r.limits.Check(population)
	if err != nil {
		return none, err
	}
	validation, err := retrain.Validate(population)
	if err != nil {
		return none, err
	}
	c.Say("validate  %d features, %d rows of %d days, %d positive; longest gap %.1f h", len(validation.Features), facts.Rows, facts.Days, facts.Positives, facts.LongestGapHours)
	for _, pair := range validation.Correlation.Flagged {
		c.Say("          %s and %s are correlated at %.3f", pair.A, pair.B, pair.R)
	}

	start := time.Now()
	s, err := experiment.Run(ctx, data, experiment.Options{Versions: map[string]string{r.schema: version}, Progress: c.Progress("training")})
	if errors.Is(err, train.ErrTooFewDays) {
		return none, WithHint(err, "widen --window: 8 days are the least that can be trained and tested on")
	}
	if err != nil {
		return none, err
	}
	candidate := s.Candidates[0]
	c.Say("train     %s and the baseline, walk-forward over %d folds, in %s", version, len(candidate.Folds), time.Since(start).Round(10*time.Millisecond))
	artifact, offline, err := s.Evaluated(candidate, Revision(), time.Now())
	if err != nil {
		return none, err
	}
	if err := c.indented(offline.Table); err != nil {
		return none, err
	}
	card := offline.Judge()
	c.Say("eval      %s: %s", version, card.Verdict())
	rows, _ := candidate.Pooled()
	if tested := len(slices.Compact(rows.Days)); tested < fourWeeks {
		c.Say("          note: judged on %d days, in which P@20 follows the base rate; four weeks take --window 43 and the data", tested)
	}

	holdout, err := retrain.MeasureHoldout(ctx, population, candidate.Folds, c.Progress("drift"))
	if err != nil {
		return none, err
	}
	report := &retrain.Report{
		Version: version, Registered: data.Name + "/" + version, Timestamp: time.Now().UnixMilli(),
		Result: card.Verdict(), Checks: card.Results, WindowDays: r.window,
		Preconditions: facts, Log: log, Validation: validation, Evaluation: offline, Drift: holdout,
	}
	c.Say("drift     from the training days of each fold to the days after them")
	if err := errors.Join(c.indented(report.DriftTable().Text), c.indented(report.FeatureTable().Text)); err != nil {
		return none, err
	}

	if err := registry.Add(artifact); errors.Is(err, model.ErrExists) {
		return none, WithHint(err, "leave --version out for the next free one")
	} else if err != nil {
		return none, err
	}
	c.Say("registered %s as candidate, digest %.12s", filepath.Join(r.models, data.Name, version), artifact.Digest())
	if same, err := sameModel(registry, artifact); err != nil {
		return none, err
	} else if same != "" {
		c.Say("          note: the same model as %s, as it comes of the same data", same)
	}
	header := s.Header(retrain.ReportSchema, artifact)
	if log != nil {
		header.Source = log.Source()
	}
	if err := r.write(store, header, s, candidate, report); err != nil {
		return none, err
	}
	c.Say("report    %s (%s), with %d figures", filepath.Join(r.evidence, "retrain_report.md"), header.Source, len(report.Figures))
	return card, nil
}

// candidateVersion is --version, or the next free one of the name.
func (r *retrainFlags) candidateVersion(registry *model.Registry, name string) (string, error) {
	if r.version != "" {
		// Found now, it costs no training.
		if _, err := os.Stat(registry.Dir(model.Entry{Name: name, Version: r.version})); err == nil && !strings.ContainsAny(r.version, `/\`) {
			return "", WithHint(fmt.Errorf("%s/%s is in the registry already", name, r.version), "leave --version out for the next free one")
		}
		return r.version, nil
	}
	entries, err := registry.List()
	if err != nil {
		return "", err
	}
	return retrain.NextCandidate(entries, name, r.schema), nil
}

// sameModel is the version under which the registry has the same model already; empty when it has not.
func sameModel(registry *model.Registry, a *model.Artifact) (string, error) {
	entries, err := registry.List()
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name != a.Manifest.Name || e.Version == a.Manifest.Version {
			continue
		}
		if m, err := registry.Manifest(e); err == nil && m.Digest == a.Digest() { // a broken neighbour is none of ours
			return e.Version, nil
		}
	}
	return "", nil
}

// write writes the figures, then the report that names them.
func (r *retrainFlags) write(store *evidence.Store, header evidence.Header, s *experiment.Study, candidate *experiment.Candidate, report *retrain.Report) error {
	figures, err := retrain.Draw(s, candidate, report)
	if err != nil {
		return err
	}
	report.Figures = []string{}
	for _, f := range figures {
		if err := store.WriteFile(f.Name, f.SVG); err != nil {
			return err
		}
		report.Figures = append(report.Figures, f.Name)
	}
	text, err := report.Markdown(header.Source, figures)
	if err != nil {
		return err
	}
	if err := store.WriteFile("retrain_report.md", text); err != nil {
		return err
	}
	return store.WriteJSON("retrain_report.json", header, report)
}
