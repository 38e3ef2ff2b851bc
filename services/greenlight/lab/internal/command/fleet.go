package command

import (
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/fleetscale"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/fleetsim"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
)

const (
	// simSeeds take less than a minute on two cores.
	simSeeds, simExecutors = 20, 200
	// natsExecutors share a process with three servers.
	natsExecutors    = 20
	maxSimExecutors  = 1000
	maxNATSExecutors = 100
)

func fleetCommand(c console.Console) *cobra.Command {
	o := fleetsim.Options{Executors: simExecutors}
	var nats bool
	var out string
	cmd := &cobra.Command{
		Use: "fleet", Short: "Prove that no carrier or controller can keep a share of a group alive",
		Long: `Fleet simulates groups of executors, each with a schedule of events that is determined by its seed. Controllers are killed, hang,
are duplicated, have clocks that are a day off, or sign two records of a revision. Other keys and groups sign. Executors restart or
are aborted. The network between them is cut, split, silent or slow, and loses, repeats, reorders and changes messages. The store is
wiped or returns to an earlier state. Executors are the members that executor runs, without decisions; time is simulated.

A witness of each executor checks it four times a second and after every event. The witness knows what was issued when, and what
the executor was given. The executor must obey a record only if it was issued to this group with the trusted key, if an admission
of its session answers a report of the process, if it was not aborted, and if it is the highest. The share must be 0 within a second
after the lease of the last renewal that the executor was given. While nothing goes wrong, all executors must reach the share.

--nats runs the groups in real time, with leases of 3 s, on three NATS servers that are killed, silenced and wiped. A schedule
takes about a minute; four run in parallel.

The time after the last renewal is the maximum age of that renewal when an executor went to 0 %. Fleet exits 3 when a rule was
broken, and prints the seed with its schedule. The seed determines the events and their times, but not the order of simultaneous
events.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			most := maxSimExecutors
			if nats {
				most = maxNATSExecutors
				if !cmd.Flags().Changed("executors") {
					o.Executors = natsExecutors
				}
			}
			switch {
			case o.Seeds < 1:
				return console.Usagef("--seeds %d: want at least 1", o.Seeds)
			case o.Executors < 1 || o.Executors > most:
				return console.Usagef("--executors %d: want 1 to %d", o.Executors, most)
			}
			// State files are synced to disk, which is fast in memory.
			dir, err := os.MkdirTemp("/dev/shm", "greenlight-fleet-")
			if err != nil {
				dir, err = os.MkdirTemp("", "greenlight-fleet-")
			}
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
			o.Dir = dir
			if o.Keys.Operator, err = operator.NewKey(filepath.Join(dir, operatorKey)); err != nil {
				return err
			}
			if o.Keys.Other, err = operator.NewKey(filepath.Join(dir, "other.pem")); err != nil {
				return err
			}
			debug.SetGCPercent(400) // hundreds of short-lived groups
			o.Progress = c.Progress("schedules")
			run := fleetsim.Simulate
			if nats {
				run = fleetsim.OnNATS
			}
			res, err := run(cmd.Context(), o)
			if err != nil {
				return err
			}
			res.Git = console.Revision()
			if err := report(c, out, res); err != nil {
				return err
			}
			c.Say("%.2f schedules a second", float64(res.Seeds)/res.TookS)
			if len(res.Violations) > 0 {
				return console.ErrGate
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&o.Seeds, "seeds", simSeeds, "number of schedules")
	fs.Uint64Var(&o.FirstSeed, "first-seed", 1, "seed of the first schedule; the others follow")
	fs.IntVar(&o.Executors, "executors", o.Executors, "executors of each group; 20 without it when --nats is given")
	fs.BoolVar(&nats, "nats", false, "run on NATS servers, in real time")
	fs.StringVar(&out, "json", "", "file that gets the result as JSON")
	cmd.AddCommand(
		fleetScaleCommand(c), fleetDemoCommand(c), fleetPart("members", "Run the members of a group", (*fleetscale.Part).Members),
		fleetPart("controller", "Run the controller of a group", (*fleetscale.Part).Controller),
	)
	return cmd
}

// operatorKey is the file of the operator's key.
const operatorKey = "operator.pem"
