package command

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

// benchFlags are the common flags of the measurements.
type benchFlags struct {
	work flags.Work
	json string
}

func (f *benchFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.json, "json", "", "file that gets the result as JSON")
	f.work.Declare(fs, "var/bench")
}

// prepare fills in what every measurement needs.
func (f *benchFlags) prepare(ctx context.Context, c console.Console, opts bench.Options) (bench.Options, error) {
	dir, err := f.work.Folder(time.Now())
	if err != nil {
		return opts, err
	}
	opts.Dir, opts.Bin, opts.Models = dir, f.work.Programs, filepath.Join(dir, "models")
	if opts.Self, err = os.Executable(); err != nil {
		return opts, err
	}
	opts.Artifact, opts.States, err = benchStates(ctx, opts.Models)
	opts.Progress = c.Progress("measuring")
	return opts, err
}

func benchCommand(c console.Console) *cobra.Command {
	var f benchFlags
	var quick bool
	var profiles string
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure the price of the shadow on this machine",
		Long: `Bench measures ml-engine and executor against a bare gRPC echo with messages of the same sizes, and the executor with
its shadow, and with an ml-engine that hangs, is dead or answers garbage, against the executor without: throughput in closed loops of 1 and 16 calls
under way, p99 in an open loop at 30 % of saturation, medians of alternating rounds. Decisions over streams are measured
against the same unary echo, against a ping-pong over a Unix socket, and under loads beyond saturation. Client and
servers share the cores of this machine, so every ratio is of the whole machine. It takes about fifteen minutes, with
--quick about three.

A missed target is a result and exits 0; bench exits 1 only when it could not be run.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := bench.DefaultOptions()
			if quick {
				opts = bench.QuickOptions()
			}
			opts, err := f.prepare(cmd.Context(), c, opts)
			if err != nil {
				return err
			}
			opts.Profiles = profiles
			result, err := bench.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if err := result.Figures(c.Out); err != nil {
				return err
			}
			c.Say("")
			if err := result.Table(c.Out); err != nil {
				return err
			}
			return writeResult(c, f.json, result)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&profiles, "profiles", "", "folder that gets the CPU profiles of both services, taken at saturation for 20 s")
	fs.BoolVar(&quick, "quick", false, "about three minutes, for a first look: shorter segments, fewer rounds")
	f.declare(fs)
	cmd.AddCommand(echoCommand(), treesCommand(c))
	return cmd
}

func treesCommand(c console.Console) *cobra.Command {
	var f benchFlags
	opts := bench.TreesOptions{Slice: 300 * time.Millisecond}
	cmd := &cobra.Command{
		Use: "trees", Short: "Measure the time of a score by trees against XGBoost",
		Long: `Trees scores made-up ensembles of 300 and 1,000 trees of depth 6 in blocks of 1, 64 and 1,024 rows, and has XGBoost score
the same rows with the same files in a Python process: CPU time on one thread each, in turn, medians of the rounds. Both
must give the same scores. Without XGBoost (Debian: python3-xgboost) it measures only Greenlight. It takes half a minute.

A missed target is a result and exits 0.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opts.Rounds < 1 {
				return console.Usagef("--rounds %d: want at least 1", opts.Rounds)
			}
			if opts.Dir, err = f.work.Folder(time.Now()); err != nil {
				return err
			}
			opts.Progress, opts.Stderr = c.Progress("measuring"), c.Err
			result, err := bench.RunTrees(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if err := result.Table(c.Out); err != nil {
				return err
			}
			return writeResult(c, f.json, result)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&opts.Rounds, "rounds", 9, "how often everything is measured")
	fs.StringVar(&opts.Python, "python", "", "Python interpreter that has XGBoost; python3 or /usr/bin/python3 when it is not given")
	f.declare(fs)
	return cmd
}

// benchStates trains a model on a short simulated market, registers it, and returns the states to send. The values do not
// affect the cost of a score.
func benchStates(ctx context.Context, models string) (*model.Artifact, []traffic.State, error) {
	const schema = feature.DefaultSchema // it has the inputs of the baseline, so that one vector serves both services
	data, err := experiment.Simulate(market.SimulateOptions{Seed: flags.DefaultSeed, Days: 42})
	if err != nil {
		return nil, nil, err
	}
	s, err := experiment.Run(ctx, data, experiment.Options{Versions: map[string]string{schema: flags.DefaultModel}})
	if err != nil {
		return nil, nil, err
	}
	a, err := s.Artifact(s.Candidates[0], console.Revision())
	if err != nil {
		return nil, nil, err
	}
	if err := model.OpenRegistry(models).Add(a); err != nil {
		return nil, nil, err
	}
	states, err := traffic.States(s.Frame, data.Symbol, s.HeldOut(), a, data.Source())
	return a, traffic.Varied(states, 4096), err
}

// writeResult writes a result as JSON, unless path is empty.
func writeResult(c console.Console, path string, result any) error {
	if path == "" {
		return nil
	}
	if err := writeJSON(path, result); err != nil {
		return err
	}
	c.Say("written to %s", path)
	return nil
}

// echoCommand runs the reference side of the ratios. Only bench uses it.
func echoCommand() *cobra.Command {
	var opts bench.EchoOptions
	cmd := &cobra.Command{
		Use: "echo-server", Short: "Serve both Predict calls on plain gRPC", Hidden: true, Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.Echo(cmd.Context(), opts) },
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.AddressFile, "address-file", "", "file that gets the address")
	fs.StringVar(&opts.ModelVersion, "model-version", "", "version in the answers of ScoringService")
	fs.StringVar(&opts.BaselineVersion, "baseline-version", "", "version in the answers of DecisionService")
	return cmd
}
