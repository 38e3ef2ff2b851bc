package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
)

// quickFaults are the values of flags that --quick sets, unless they are given.
var quickFaults = map[string]string{"requests": "60000", "rounds": "10", "hang": "10s", "overload": "1s"}

func faultsCommand(c console.Console) *cobra.Command {
	var m measurement
	var quick, resume bool
	var only []string
	var markdown string
	opts := faults.DefaultOptions()
	cmd := &cobra.Command{
		Use: "faults", Short: "Inject faults between executor and ml-engine, and check every decision",
		Long: `Faults starts ml-engine and two executors as processes, one with a shadow for every request and one with none, and puts
a proxy in between. Then it injects faults one after another: ml-engine is killed, frozen, restarted, slow, unreachable, or
sends wrong answers. Half of the decisions are requested by calls, half over streams. Every decision is compared bit for bit
with the baseline. p99 is the ratio of the two executors, in alternating slices of 0.1 s, with an interval. Outcomes must add
up. Goroutines, memory and file descriptors are read before and after. The time until shadows are compared again is measured.
With --gated, the model of the executor with a shadow decides behind a gate. Every decision must then be the baseline's score or
the model's, bit for bit, within the cap of the gate, and in time: within the wait budget and twice the slowest answer of the
other executor. The decisions by reason must add up to the requests.

A million decisions take about ten minutes, --quick about five; the hang comes on top.

It exits 3 when a target is missed, and 1 when it could not be run.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Git, opts.Command = console.Revision(), commandLine(cmd)
			if quick {
				for name, value := range quickFaults {
					if fs := cmd.Flags(); !fs.Changed(name) {
						if err := fs.Set(name, value); err != nil {
							return err
						}
					}
				}
			}
			if opts.Gated {
				opts.Hang, opts.Overload = 0, 0
			}
			if len(only) > 0 {
				opts.Faults = slices.DeleteFunc(opts.Faults, func(f faults.Fault) bool {
					return !slices.ContainsFunc(only, func(part string) bool { return strings.Contains(f.Name, part) })
				})
				if len(opts.Faults) == 0 {
					return console.Usagef("--only %s: no fault has a name like that", strings.Join(only, ","))
				}
			}
			if resume {
				if err := resumed(m.json, &opts); err != nil {
					return err
				}
			}
			p, states, err := m.inputs(cmd.Context())
			if err != nil {
				return err
			}
			opts.Services, opts.Dir, opts.States, opts.Progress = p.Services, p.dir, states, c.Progress("faults")
			opts.Save = func(r *faults.Result) error { return writeJSON(m.json, r) }
			result, err := faults.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if err := report(c, m.json, result); err != nil {
				return err
			}
			if markdown != "" {
				if err := durable.Write(markdown, 0o644, result.Markdown); err != nil {
					return err
				}
			}
			if len(result.Missed()) > 0 {
				return console.ErrGate
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&quick, "quick", false, "about five minutes: fewer decisions and rounds, a short hang")
	fs.BoolVar(&resume, "resume", false, "continue the result in --json: faults in it are not measured again")
	fs.BoolVar(&opts.Gated, "gated", false, "put a gate on the executor with a shadow, so that its model decides; without the hang and the overload")
	fs.IntVar(&opts.Requests, "requests", opts.Requests, "total number of decisions, spread evenly over the faults")
	fs.IntVar(&opts.Rounds, "rounds", opts.Rounds, "slices of 100 ms of each executor, in turn, for each fault")
	fs.StringSliceVar(&only, "only", nil, "inject only faults whose names contain one of these")
	fs.DurationVar(&opts.Hang, "hang", opts.Hang, "how long memory is watched while ml-engine hangs under full load; 0 skips this")
	fs.DurationVar(&opts.Overload, "overload", opts.Overload, "length of each load in the overload test; 0 skips it")
	fs.StringVar(&markdown, "markdown", "", "Markdown file to write the table to")
	m.declare(fs, "var/faults")
	fs.Lookup("json").Usage = "JSON file to write the result to, after every fault"
	return cmd
}

// resumed reads the result to continue, if there is one.
func resumed(path string, opts *faults.Options) error {
	if path == "" {
		return console.Usagef("--resume continues the file of --json: give it too")
	}
	raw, err := durable.ReadFile(path, durable.MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var before faults.Result
	if err == nil {
		err = json.Unmarshal(raw, &before)
	}
	if err == nil && before.Schema != faults.Schema {
		err = fmt.Errorf("not a result of this command: its schema is %q", before.Schema)
	}
	if err != nil {
		return fmt.Errorf("--resume: %s: %w", path, err)
	}
	opts.Before = &before
	return nil
}

// commandLine returns the command line with the given flags.
func commandLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) { line += " --" + f.Name + "=" + f.Value.String() })
	return line
}
