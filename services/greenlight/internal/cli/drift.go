package cli

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func driftCommand(c console.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drift", Short: "Measure how far the inputs have moved from the training data", Args: console.NoArgs,
	}
	cmd.AddCommand(driftSnapshotCommand(c), driftWatchCommand(c), driftCompareCommand(c))
	return cmd
}

// engineFlags say which ml-engines to ask for their drift, and over how long.
type engineFlags struct {
	accessFlags

	addrs   []string
	window  time.Duration
	timeout time.Duration
}

const (
	week = 7 * 24 * time.Hour
	// driftTimeout is far more than the first answer takes, which draws the noise: some hundred milliseconds.
	driftTimeout = 10 * time.Second
)

func (e *engineFlags) declare(fs *pflag.FlagSet, c console.Console) {
	e.accessFlags.declare(fs, c)
	targetsVar(fs, &e.addrs, "engine", []string{"127.0.0.1:4010"}, "gRPC addresses of ml-engine, one per replica")
	fs.DurationVar(&e.window, "window", week, "how far to look back: whole hours, at most 672h")
	fs.DurationVar(&e.timeout, "timeout", driftTimeout, "how long the answers may take")
	console.Require(fs, "timeout", "more than 0", func() bool { return e.timeout > 0 })
}

func (e *engineFlags) validate() error {
	if e.window%time.Hour != 0 || e.window < time.Hour || e.window > drift.RingHours*time.Hour {
		return console.Usagef("--window %v: want whole hours from 1 to %d", e.window, drift.RingHours)
	}
	if len(e.addrs) == 0 {
		return console.Usagef("--engine: no address")
	}
	for i, addr := range e.addrs {
		if slices.Contains(e.addrs[:i], addr) {
			return console.Usagef("--engine: %s is there twice, and would be counted twice", addr)
		}
	}
	return nil
}

// dial connects to all replicas, hands them to use, and closes the connections.
func (e *engineFlags) dial(use func([]driftfleet.Replica) error) error {
	if err := e.open(); err != nil {
		return err
	}
	services, err := fleet.Connect(e.connect, e.addrs, nil)
	if err != nil {
		return console.Usage(err)
	}
	return errors.Join(use(driftfleet.Replicas(services.Engines)), services.Close())
}

// read asks the replicas within the timeout.
func (e *engineFlags) read(ctx context.Context, replicas []driftfleet.Replica, history bool) (*driftfleet.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return driftfleet.Read(ctx, replicas, e.hours(), history)
}

func (e *engineFlags) hours() int { return int(e.window / time.Hour) }

// checkSource checks the value of --source.
func checkSource(source string) error {
	if !evidence.Source(source).Valid() {
		return console.Usagef("--source %q: want %s, %s or %s", source, evidence.Live, evidence.Replay, evidence.Simulated)
	}
	return nil
}

func declareCheck(fs *pflag.FlagSet, check *bool) {
	fs.BoolVar(check, "check", false, "exit 3 when the verdict is not PASS")
}

// gated returns the error of a verdict that is checked and is not PASS.
func gated(check bool, v gate.Verdict) error {
	if check && !v.OK() {
		return console.ErrGate
	}
	return nil
}

// keepDrift writes a report, and prints where it is.
func keepDrift(c console.Console, folder, file string, source evidence.Source, write func(*evidence.Store) (figures int, err error)) error {
	return withEvidence(folder, func(store *evidence.Store) error {
		figures, err := write(store)
		if err == nil {
			c.Say("evidence  %s (%s), with %s", filepath.Join(folder, file), source, text.Count(figures, "figure"))
		}
		return err
	})
}

// sayDrift prints the table, what it means, and the verdict.
func sayDrift(c console.Console, r *driftview.Report) error {
	if !r.Window.End.IsZero() {
		c.Say("window    %s to %s, %s of %s, against %s of %s", clock(r.Window.Start.UnixMilli()), clock(r.Window.End.UnixMilli()),
			text.Count(r.Rows, "row"), text.Count(r.Days, "day"), text.Count(r.ReferenceRows, "row"), text.Count(r.ReferenceDays, "day"))
	}
	bins := driftview.Numbers
	if c.Screen != nil {
		bins = driftview.Blocks
	}
	if err := r.Table(c.Out, bins); err != nil {
		return err
	}
	if story := r.Story(); story != "" {
		c.Say("%s", story)
	}
	if r.Reason == "" {
		c.Say("verdict   %s", r.Verdict)
	} else {
		c.Say("verdict   %s: %s", r.Verdict, r.Reason)
	}
	return nil
}
