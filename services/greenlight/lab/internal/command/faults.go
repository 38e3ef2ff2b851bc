package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
)

// faultFlags configure greenlight-lab faults.
type faultFlags struct {
	work           flags.Work
	quick, resume  bool
	gated          bool
	requests       int
	rounds         int
	only           []string
	hang, overload time.Duration
	json, markdown string
}

func faultsCommand(c console.Console) *cobra.Command {
	var f faultFlags
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
		RunE: func(cmd *cobra.Command, _ []string) error { return f.do(cmd.Context(), c, commandLine(cmd)) },
	}
	fs := cmd.Flags()
	opts := faults.DefaultOptions()
	fs.BoolVar(&f.quick, "quick", false, "about five minutes: fewer decisions and rounds, a short hang")
	fs.BoolVar(&f.resume, "resume", false, "continue the result in --json: faults in it are not measured again")
	fs.BoolVar(&f.gated, "gated", false, "put a gate on the executor with a shadow, so that its model decides; without the hang and the overload")
	fs.IntVar(&f.requests, "requests", opts.Requests, "decisions in all, spread evenly over the faults")
	fs.IntVar(&f.rounds, "rounds", opts.Rounds, "slices of 100 ms of each executor, in turn, for each fault")
	fs.StringSliceVar(&f.only, "only", nil, "faults whose names contain one of these; all when it is not given")
	fs.DurationVar(&f.hang, "hang", opts.Hang, "how long memory is watched while ml-engine hangs under full load; 0 leaves it out")
	fs.DurationVar(&f.overload, "overload", opts.Overload, "how long each load beyond what can be answered lasts; 0 leaves it out")
	fs.StringVar(&f.json, "json", "", "file that gets the result as JSON, after every fault")
	fs.StringVar(&f.markdown, "markdown", "", "file that gets the table as Markdown")
	f.work.Declare(fs, "var/faults")
	return cmd
}

// commandLine returns the command line with the flags that were given.
func commandLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) { line += " --" + f.Name + "=" + f.Value.String() })
	return line
}

func (f *faultFlags) do(ctx context.Context, c console.Console, command string) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	before, err := f.before()
	if err != nil {
		return err
	}
	opts.Faults = slices.DeleteFunc(opts.Faults, func(x faults.Fault) bool { return before.Has(x.Name) })
	if before.Hang != nil {
		opts.Hang = 0
	}
	if before.Overload != nil {
		opts.Overload = 0
	}
	result := before
	if len(opts.Faults) > 0 || opts.Hang > 0 || opts.Overload > 0 {
		if opts.StageOptions, err = f.stage(ctx); err != nil {
			return err
		}
		opts.Progress = c.Progress("faults")
		opts.Done = func(measured *faults.Result) error {
			for i := range measured.Runs {
				measured.Runs[i].Git, measured.Runs[i].Command = console.Revision(), command
			}
			result = before.With(measured)
			return writeJSON(f.json, result)
		}
		if _, err := faults.Run(ctx, opts); err != nil {
			return err
		}
	}
	if err := result.Table(c.Out); err != nil {
		return err
	}
	if f.markdown != "" {
		err := durable.Write(f.markdown, 0o644, result.Markdown)
		if err != nil {
			return err
		}
	}
	if len(result.Missed()) > 0 {
		return console.ErrGate
	}
	return nil
}

func (f *faultFlags) options() (faults.Options, error) {
	opts := faults.DefaultOptions()
	if f.quick {
		opts = faults.QuickOptions()
	}
	defaults := faults.DefaultOptions()
	if f.requests != defaults.Requests {
		opts.Requests = f.requests
	}
	if f.rounds != defaults.Rounds {
		opts.Rounds = f.rounds
	}
	if f.hang != defaults.Hang {
		opts.Hang = f.hang
	}
	if f.overload != defaults.Overload {
		opts.Overload = f.overload
	}
	if f.gated {
		opts.Hang, opts.Overload = 0, 0
	}
	if len(f.only) > 0 {
		opts.Faults = slices.DeleteFunc(opts.Faults, func(x faults.Fault) bool {
			return !slices.ContainsFunc(f.only, func(part string) bool { return strings.Contains(x.Name, part) })
		})
		if len(opts.Faults) == 0 {
			return opts, console.Usagef("--only %s: no fault has such a name", strings.Join(f.only, ","))
		}
	}
	if f.resume && f.json == "" {
		return opts, console.Usage(errors.New("--resume goes on with the file of --json: give it too"))
	}
	return opts, nil
}

// before returns what has already been measured.
func (f *faultFlags) before() (*faults.Result, error) {
	if !f.resume {
		return &faults.Result{}, nil
	}
	raw, err := durable.ReadFile(f.json, durable.MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		return &faults.Result{}, nil
	}
	if err != nil {
		return nil, err
	}
	var r faults.Result
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("--resume: %s: %w", f.json, err)
	}
	if r.Schema != faults.Schema {
		return nil, fmt.Errorf("--resume: %s is no result of this command: its schema is %q", f.json, r.Schema)
	}
	return &r, nil
}

func (f *faultFlags) stage(ctx context.Context) (faults.StageOptions, error) {
	dir, err := f.work.Folder(time.Now())
	if err != nil {
		return faults.StageOptions{}, err
	}
	o := faults.StageOptions{Gated: f.gated, Dir: dir, Bin: f.work.Programs, Models: filepath.Join(dir, "models")}
	o.Artifact, o.States, err = benchStates(ctx, o.Models)
	return o, err
}

// writeJSON writes the file atomically, unless path is empty.
func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return durable.WriteFile(path, append(raw, '\n'), 0o644)
}
