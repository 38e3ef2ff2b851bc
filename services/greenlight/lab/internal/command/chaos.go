package command

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/chaos"
)

func chaosCommand(c console.Console) *cobra.Command {
	var m measurement
	var opts chaos.Options
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
			p, err := m.prepare(cmd.Context(), feature.DefaultSchema, "v1.8")
			if err != nil {
				return err
			}
			opts.Stage.Services, opts.Stage.Dir, opts.Models = p.Services, p.dir, p.models
			if opts.States, err = chaos.States(p.study.Frame, p.study.Data.Symbol, p.study.HeldOut(), p.models); err != nil {
				return err
			}
			opts.Progress = c.Progress("chaos, s")
			result, err := chaos.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			result.Git = console.Revision()
			if err := report(c, m.json, result); err != nil {
				return err
			}
			if len(result.Missed()) > 0 {
				return console.ErrGate
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.DurationVar(&opts.Duration, "duration", 10*time.Minute, "length of the run")
	fs.Uint64Var(&opts.Seed, "seed", 1, "seed of the schedule")
	fs.BoolVar(&schedule, "schedule", false, "print the schedule without running it")
	m.declare(fs, "var/chaos")
	return cmd
}
