package flags

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Load has the flags that name the requests to send and the model to check the answers against.
type Load struct {
	Data        Data
	Models      string
	Model       string
	concurrency int
	Rate        float64
	timeout     time.Duration
	Evidence    string
	// baseline computes the score to send to an executor whose baseline is the caller's score.
	baseline string
}

// Declare declares the flags.
func (l *Load) Declare(fs *pflag.FlagSet) {
	l.Data.Declare(fs)
	l.Data.Table = DeclareTable(fs)
	fs.StringVar(&l.Models, "models", "models", "registry folder with the model that is served")
	fs.StringVar(&l.Model, "model", DefaultModel, "the model that is served: name/version, or version")
	fs.IntVar(&l.concurrency, "concurrency", 4, "calls in flight")
	fs.Float64Var(&l.Rate, "rate", 0, "calls per second; 0 is as fast as possible")
	fs.DurationVar(&l.timeout, "timeout", 2*time.Second, "how long a call may take")
	console.Require(fs, "concurrency", "at least 1", func() bool { return l.concurrency >= 1 })
	console.Require(fs, "rate", "0 or more", func() bool { return l.Rate >= 0 })
	console.Require(fs, "timeout", "more than 0", func() bool { return l.timeout > 0 })
	Evidence(fs, &l.Evidence)
}

// DeclareBaseline declares the flag for commands that send requests to a running executor.
func (l *Load) DeclareBaseline(fs *pflag.FlagSet) {
	fs.StringVar(&l.baseline, "baseline", "", "how to compute the score that is sent to an executor with --baseline caller=...: "+traffic.SendingForms)
}

// Pace returns the pace of the calls.
func (l *Load) Pace(progress func(done, total int)) traffic.Pace {
	return traffic.Pace{Concurrency: l.concurrency, Rate: l.Rate, Timeout: l.timeout, Progress: progress}
}

// Decider returns the baseline of the executor that receives the states.
type Decider func(*model.Artifact) (traffic.Baseline, error)

// Released is the Decider of an executor that is started with the heuristic of the model.
func Released(a *model.Artifact) (traffic.Baseline, error) { return traffic.Heuristic(a), nil }

// baselineTimeout is how long an executor may take to name its baseline.
const baselineTimeout = 5 * time.Second

// DecidesAt is the Decider of a running executor. The executor names its baseline, which must be in --models.
func (l *Load) DecidesAt(ctx context.Context, c console.Console, at Endpoint) Decider {
	return func(a *model.Artifact) (b traffic.Baseline, err error) {
		ctx, cancel := context.WithTimeout(ctx, baselineTimeout)
		defer cancel()
		err = at.Dial(func(conn *grpc.ClientConn) error {
			executor, err := fleet.NewExecutor(conn.Target(), conn).Counters(ctx)
			if err == nil {
				b, err = l.decides(a, executor.Baseline)
			}
			return err
		})
		switch {
		case err == nil && b.Sent:
			c.Say("baseline  %s, digest %.12s: %s computes the score that is sent", b.Version, b.Digest, l.baseline)
		case err == nil && b.Scorer == nil:
			c.Say("baseline  %s, digest %.12s, is not in %s: the baseline's answers cannot be checked", b.Version, b.Digest, l.Models)
		case err == nil && b.Model != traffic.Heuristic(a).Model:
			c.Say("baseline  %s, digest %.12s: its answers are compared with that model in %s", b.Version, b.Digest, l.Models)
		}
		return b, err
	}
}

// decides returns the baseline that an executor names.
func (l *Load) decides(a *model.Artifact, named evidence.Model) (traffic.Baseline, error) {
	registry := model.OpenRegistry(l.Models)
	switch sends := traffic.Sends(named); {
	case sends && l.baseline == "":
		return traffic.Baseline{}, console.Usagef("the executor decides by %s, the score that comes with each request: say with --baseline how to compute it: %s", named.Version, traffic.SendingForms)
	case sends && strings.HasPrefix(l.baseline, "column=") && l.Data.Table.Path == "":
		return traffic.Baseline{}, console.Usagef("--baseline %s names a column: give the rows with --table", l.baseline)
	case sends:
		return traffic.Sending(registry, named, l.baseline)
	case l.baseline != "":
		return traffic.Baseline{}, console.Usagef("--baseline is for an executor that decides by the caller's score, but this one decides by %s: remove --baseline", named.Version)
	}
	return traffic.FindBaseline(registry, a, named)
}

// States reads the data and the model, and returns the states that the model was not trained on.
func (l *Load) States(c console.Console, decides Decider) (*rehearsal.Trial, []traffic.State, error) {
	a, err := model.OpenRegistry(l.Models).Load(l.Model)
	if err != nil {
		return nil, nil, console.WithHint(err, "greenlight train creates models; --models names their folder")
	}
	baseline, err := decides(a)
	if err != nil {
		return nil, nil, err
	}
	data, err := l.read(c, a, baseline)
	if err != nil {
		return nil, nil, err
	}
	t := &rehearsal.Trial{Data: data, Artifact: a, Git: console.Revision()}
	states, err := t.Unseen(baseline)
	return t, states, err
}

// read reads the market data, or the table with the features of the model and of the baseline.
func (l *Load) read(c console.Console, a *model.Artifact, baseline traffic.Baseline) (*experiment.Data, error) {
	if l.Data.Table.Path == "" {
		if !a.Schema.Computable() {
			return nil, console.Usagef("model %s takes features that cannot be computed from market data: give rows with them, --table and --time", a.Manifest.Version)
		}
		return l.Data.Load(c)
	}
	if l.Data.Table.Time == "" {
		return nil, console.Usagef("--table needs --time, the column with the time of a row")
	}
	return l.Data.Table.Load(c, experiment.TableOptions{Schema: a.Schema, Baseline: baseline.Inputs})
}

// DefaultModel is the default of --model, the model under trial.
const DefaultModel = "v1.8.1-rc1"
