package command

import (
	"context"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/chaos"
)

func chaosCommand(c console.Console) *cobra.Command {
	var work flags.Work
	var opts chaos.Options
	var out string
	var schedule bool
	cmd := &cobra.Command{
		Use: "chaos", Short: "Run the pair under mixed load with faults, swaps, canaries and restarts at random",
		Long: `Chaos starts ml-engine and two executors as processes, and triggers events at times that --seed determines: faults between
the services, activations of another model, canaries that end, abort or lapse, gates that are killed, restarts of one executor. Decisions are
requested by calls, over streams, over HTTP and on quotes, with and without waiting for the shadow. Every answer is checked
bit for bit. At the end every request must have had exactly one outcome, and the executor that ran throughout must not use
more resources than at the start.

It exits 3 when a check failed, and 1 when it could not be run. --schedule prints the events without running them.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schedule {
				for _, e := range chaos.Schedule(opts.Seed, opts.Duration) {
					c.Say("%9.3fs  %-8s %-7v %s", e.At.Seconds(), e.Kind, e.For, e.What)
				}
				return nil
			}
			if opts.Duration < chaos.MinDuration {
				return console.Usagef("--duration %v: want at least %v", opts.Duration, chaos.MinDuration)
			}
			var err error
			if opts.Stage.Dir, err = work.Folder(time.Now()); err != nil {
				return err
			}
			opts.Stage.Bin, opts.Stage.Models = work.Programs, filepath.Join(opts.Stage.Dir, "models")
			if err := chaosModels(cmd.Context(), &opts); err != nil {
				return err
			}
			opts.Progress = c.Progress("chaos, s")
			result, err := chaos.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			result.Git = console.Revision()
			if err := writeJSON(out, result); err != nil {
				return err
			}
			if err := result.Table(c.Out); err != nil {
				return err
			}
			if len(result.Missed()) > 0 {
				return console.ErrGate
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.DurationVar(&opts.Duration, "duration", 10*time.Minute, "how long it goes on")
	fs.Uint64Var(&opts.Seed, "seed", 1, "what happens when: the same seed, the same schedule")
	fs.BoolVar(&schedule, "schedule", false, "print what would happen, and do not run it")
	fs.StringVar(&out, "json", "", "file that gets the result as JSON")
	work.Declare(fs, "var/chaos")
	return cmd
}

// chaosModels trains a model of each schema on a short simulated market and returns states that both can score.
func chaosModels(ctx context.Context, opts *chaos.Options) error {
	data, err := experiment.Simulate(market.SimulateOptions{Seed: flags.DefaultSeed, Days: 42})
	if err != nil {
		return err
	}
	s, err := experiment.Run(ctx, data, experiment.Options{Versions: map[string]string{feature.DefaultSchema: flags.DefaultModel, "v1.8": "v1.8-b0"}})
	if err != nil {
		return err
	}
	registry := model.OpenRegistry(opts.Stage.Models)
	for _, version := range []string{flags.DefaultModel, "v1.8-b0"} {
		candidate, err := s.Candidate(version)
		if err != nil {
			return err
		}
		a, err := s.Artifact(candidate, console.Revision())
		if err != nil {
			return err
		}
		if err := registry.Add(a); err != nil {
			return err
		}
		opts.Models = append(opts.Models, a)
	}
	opts.Stage.Artifact = opts.Models[0]
	if opts.States, err = chaos.States(s.Frame, data.Symbol, s.HeldOut(), opts.Models); err != nil {
		return err
	}
	states := make([]traffic.State, len(opts.States))
	for i, s := range opts.States {
		states[i] = s.State
	}
	opts.Stage.States = states
	return nil
}
