package cli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rows"
)

// qualityFlags are the flags that select the scores to judge.
type qualityFlags struct {
	data             flags.Data
	rows             flags.Rows
	log              string
	model, baseline  string
	models, evidence string
	quality.Options

	pair flags.Pair
	// show prints the report with --output json.
	show func(*quality.Report) error
}

func qualityCommand(c console.Console) *cobra.Command {
	var f qualityFlags
	cmd := &cobra.Command{
		Use: "quality", Short: "Judge by real outcomes who was right: the model or the baseline",
		Long: `Quality joins the scores of a model and of the baseline to the outcomes, and gives a verdict: FAIL (worse), PASS (not
worse), BETTER, INCONCLUSIVE with the number of days still needed, or ERROR. It compares Brier losses in blocks of 15 minutes.
The bounds are valid at all times simultaneously, so you can read the verdict as often as you like.

With --executor it judges the scores that running executors have joined to labels since their plan was set (greenlight rollout
set --quality-cap, --quality-margin). Name all executors of the fleet: their records are added up. It exits 1 if one does not
answer. With --fleet and --fleet-group it judges the stored records of a group, including those of executors that are gone.

With --feature-log it judges the scores that executors logged, with labels from --market. The log is the folder of an executor,
or a dataset that greenlight rows push has made, in a folder or at s3://bucket/prefix. It judges the model that scored most
rows, and reads the model's label from --models. The plan comes from the model's own evaluation, or from --quality-cap and
--quality-margin if the log has another baseline. Both must be fixed before the days that are judged; the command suggests
values for the days to come.

Without either it trains on --market like greenlight train, and judges the out-of-time scores of --model against those of
--baseline: how a live run would have gone.

It writes quality_<time>.json, with the records of all blocks, and a figure to the evidence folder; greenlight evidence
verify recomputes the verdict from the records. It exits 3 unless the verdict is PASS or BETTER.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fs := cmd.Flags()
			if fs.Changed("executor") || f.pair.Fleet.Given() {
				if f.log != "" || fs.Changed("model") || fs.Changed("baseline") || fs.Changed("market") || f.Cap != 0 || f.Margin != 0 {
					return console.Usagef("--executor determines the model, the baseline and the plan: remove --feature-log, --market, --model, --baseline, --quality-cap and --quality-margin")
				}
				return f.live(cmd, c)
			}
			if f.log != "" && (fs.Changed("model") || fs.Changed("baseline")) {
				return console.Usagef("--feature-log determines the model and the baseline: --model and --baseline are for --market without a log")
			}
			if err := f.rows.Validate(f.log); err != nil {
				return err
			}
			if f.log != "" && !rows.IsURL(f.log) && !(featurelog.Log{Dir: f.log}).Exists() {
				return console.Usagef("--feature-log %s: not the folder of a feature log", f.log)
			}
			r, header, err := f.judge(cmd, c)
			if err != nil {
				return err
			}
			return f.keep(c, r, header)
		},
	}
	fs := cmd.Flags()
	f.data.DeclareAs(fs, "market")
	fs.StringVar(&f.log, "feature-log", "", "folder or s3:// URL of the executors' feature log; without it, out-of-time scores are judged")
	f.rows.Declare(fs)
	fs.StringVar(&f.model, "model", flags.DefaultModel, "version of the model under trial, as in greenlight train")
	fs.StringVar(&f.baseline, "baseline", experiment.BaselineVersion, "what to compare with: "+experiment.BaselineVersion+", or another version")
	fs.StringVar(&f.models, "models", "models", "registry folder with the model of the log")
	fs.Float64Var(&f.Cap, "quality-cap", 0, "disagreement cap of the plan, up to 1; 0 takes it from the evaluation")
	console.Require(fs, "quality-cap", "0 to 1", func() bool { return f.Cap >= 0 && f.Cap <= 1 })
	fs.Float64Var(&f.Margin, "quality-margin", 0, "margin of the plan, in units of the Brier loss; 0 takes it from the evaluation")
	console.Require(fs, "quality-margin", "0 to 1", func() bool { return f.Margin >= 0 && f.Margin < 1 })
	f.pair.Declare(fs, c, nil, nil, qualityTimeout)
	f.pair.DeclareFleet(fs, false)
	flags.Evidence(fs, &f.evidence)
	f.show = console.Outputs[*quality.Report](c, cmd, quality.Schema)
	return cmd
}

// qualityTimeout is how long executors may take to send all their records.
const qualityTimeout = time.Minute

// live judges the records of running executors.
func (f *qualityFlags) live(cmd *cobra.Command, c console.Console) error {
	var l *quality.Live
	var executors []fleet.Executor
	err := f.pair.Use(cmd.Context(), func(ctx context.Context, services *fleet.Services) (err error) {
		if executors, err = services.Recorders(ctx); err == nil {
			l, err = quality.FromExecutors(ctx, executors)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.Say("%s: %s", text.Count(len(executors), "executor"), l.Now())
	header := evidence.Header{Git: console.Revision(), Source: l.Source}
	if l.Digest != "" {
		header.Model = &evidence.Model{Version: l.Model, Digest: l.Digest}
	}
	if l.Judgment == nil {
		c.Say("no verdict: the rollout has no quality plan. Set one before the days to judge: greenlight rollout set --quality-cap D --quality-margin M")
		return errors.Join(f.show(l.Report), console.ErrGate)
	}
	return f.keep(c, l.Report, header)
}

// judge reads the scores and judges them.
func (f *qualityFlags) judge(cmd *cobra.Command, c console.Console) (r *quality.Report, header evidence.Header, err error) {
	header = evidence.Header{Git: console.Revision()}
	if f.log == "" {
		data, err := f.data.Load(c)
		if err != nil {
			return nil, header, err
		}
		study, err := experiment.Run(cmd.Context(), data, experiment.Options{Versions: experiment.DefaultVersions(), Progress: c.Progress("training")})
		if err != nil {
			return nil, header, err
		}
		header.Source, header.Inputs = data.Source(), data.Inputs()
		r, err := quality.FromStudy(study, f.model, f.baseline, f.Options)
		if err != nil {
			err = console.Usage(err)
		}
		return r, header, err
	}
	opened, closeLog, err := f.rows.Open(cmd.Context(), c, f.log, 0)
	if err != nil {
		return nil, header, err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	log, err := quality.OpenLog(opened, f.data.Symbol)
	if err != nil {
		return nil, header, err
	}
	a, err := model.OpenRegistry(f.models).ByDigest(log.Model)
	if err != nil {
		return nil, header, console.WithHint(err, "--models names the registry folder with the model of the log")
	}
	c.Say("log       %s: %d sampled rows of %s, model %s, source %s", f.log, log.Rows, log.Symbol, a.Manifest.Version, log.Sources)
	data, err := f.data.Load(c)
	if err != nil {
		return nil, header, err
	}
	parts, err := log.Inputs()
	if err != nil {
		return nil, header, err
	}
	header.Source, header.Inputs = log.Source(data), append(data.Inputs(), parts...)
	header.Model = &evidence.Model{Version: a.Manifest.Version, Digest: a.Digest()}
	r, err = quality.FromLog(log, data, a, f.Options)
	return r, header, err
}

// keep prints and writes the report. It returns the error for the verdict.
func (f *qualityFlags) keep(c console.Console, r *quality.Report, header evidence.Header) error {
	for _, why := range slices.Sorted(maps.Keys(r.Skipped)) {
		c.Say("          %d rows left out: %s", r.Skipped[why], why)
	}
	c.Say("")
	if err := errors.Join(r.Table(c.Out), f.show(r)); err != nil {
		return err
	}
	written, err := flags.Keep(c, f.evidence, func(store *evidence.Store) (string, error) { return r.Write(store, header, time.Now()) })
	if err != nil {
		return err
	}
	c.Say("\nevidence  %s/%s (%s)", f.evidence, written, header.Source)
	if r.Judgment == nil {
		c.Say("no verdict: there is no offline evaluation against the log's baseline, and a plan chosen after the scores proves nothing.\nGive --quality-cap and --quality-margin from earlier days.")
		return console.ErrGate
	}
	return gated(true, r.Judgment.Verdict.Gate())
}
