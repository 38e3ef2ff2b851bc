package command

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

// benchOptions completes the options of a measurement.
func (m *measurement) benchOptions(ctx context.Context, c console.Console, opts *bench.Options) error {
	p, states, err := m.inputs(ctx)
	if err != nil {
		return err
	}
	opts.Services, opts.Dir, opts.States, opts.Progress = p.Services, p.dir, states, c.Progress("measuring")
	opts.Self, err = os.Executable()
	return err
}

func benchCommand(c console.Console) *cobra.Command {
	var m measurement
	var quick bool
	var profiles string
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure the price of the shadow on this machine",
		Long: `Bench measures ml-engine and executor against a bare gRPC echo with messages of the same sizes, and the executor with
a shadow, also while ml-engine hangs, is dead or answers garbage, against the executor without: throughput in closed loops of
1 and 16 calls in flight, p99 in an open loop at 30 % of saturation, medians of alternating rounds. Decisions over streams are measured
against the same unary echo, against a ping-pong over a Unix socket, and under loads beyond saturation. An executor in a group
over three NATS servers is compared with one outside any group, by its CPU time at 1,000 decisions per second. Client and
servers share the cores of this machine, so every ratio is of the whole machine. It takes about fifteen minutes, with
--quick about three.

A missed target is a result and exits 0; bench exits 1 only when it could not be run.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := bench.DefaultOptions()
			if quick {
				opts = bench.QuickOptions()
			}
			if err := m.benchOptions(cmd.Context(), c, &opts); err != nil {
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
			return report(c, m.json, result)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&profiles, "profiles", "", "folder to write CPU profiles of both services to, taken at saturation for 20 s")
	fs.BoolVar(&quick, "quick", false, "about three minutes, for a first look: shorter segments, fewer rounds")
	m.declare(fs, "var/bench")
	cmd.AddCommand(echoCommand(), treesCommand(c))
	return cmd
}

func treesCommand(c console.Console) *cobra.Command {
	var m measurement
	opts := bench.TreesOptions{Slice: 300 * time.Millisecond}
	cmd := &cobra.Command{
		Use: "trees", Short: "Compare the time of a tree ensemble's score with XGBoost",
		Long: `Trees scores generated ensembles of 300 and 1,000 trees of depth 6 in blocks of 1, 64 and 1,024 rows, and has XGBoost score
the same rows with the same files in a Python process: CPU time on one thread each, in turn, medians of the rounds. Both
must give the same scores. Without XGBoost (Debian: python3-xgboost) it measures only Greenlight. It takes half a minute.

A missed target is a result and exits 0.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opts.Rounds < 1 {
				return console.Usagef("--rounds %d: want at least 1", opts.Rounds)
			}
			if opts.Dir, err = m.work.Folder(time.Now()); err != nil {
				return err
			}
			opts.Progress, opts.Stderr = c.Progress("measuring"), c.Err
			result, err := bench.RunTrees(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return report(c, m.json, result)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&opts.Rounds, "rounds", 9, "number of times that everything is measured")
	fs.StringVar(&opts.Python, "python", "", "Python interpreter with XGBoost; default python3 or /usr/bin/python3")
	m.declare(fs, "var/bench")
	return cmd
}

// echoCommand runs the reference side of the ratios. Only bench uses it.
func echoCommand() *cobra.Command {
	var opts bench.EchoOptions
	cmd := &cobra.Command{
		Use: "echo-server", Short: "Serve both Predict calls on plain gRPC", Hidden: true, Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.Echo(cmd.Context(), opts) },
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.AddressFile, "address-file", "", "file to write the address to")
	fs.StringVar(&opts.ModelVersion, "model-version", "", "version in the answers of ScoringService")
	fs.StringVar(&opts.BaselineVersion, "baseline-version", "", "version in the answers of DecisionService")
	return cmd
}
