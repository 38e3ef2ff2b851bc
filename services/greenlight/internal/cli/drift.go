package cli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// checkSource checks the value of --source.
func checkSource(source string) error {
	if !evidence.Source(source).Valid() {
		return console.Usagef("--source %q: want %s, %s or %s", source, evidence.Live, evidence.Replay, evidence.Simulated)
	}
	return nil
}

func declareCheck(fs *pflag.FlagSet, check *bool) {
	fs.BoolVar(check, "check", false, "exit 3 unless the verdict is PASS")
}

// gated returns an error if the verdict is checked and is not PASS.
func gated(check bool, v gate.Verdict) error {
	if check && !v.OK() {
		return console.ErrGate
	}
	return nil
}

// keepDrift writes a report and prints its path.
func keepDrift(c console.Console, folder, file string, source evidence.Source, write func(*evidence.Store) (figures int, err error)) error {
	return flags.WithEvidence(c, folder, func(store *evidence.Store) error {
		figures, err := write(store)
		if err == nil {
			c.Say("evidence  %s (%s), with %s", filepath.Join(folder, file), source, text.Count(figures, "figure"))
		}
		return err
	})
}

// sayDrift prints the report, with drawings of the bins on a terminal.
func sayDrift(c console.Console, r *driftview.Report) error {
	bins := driftview.Numbers
	if c.Screen != nil {
		bins = driftview.Blocks
	}
	return r.Text(c.Out, bins)
}

func driftSnapshotCommand(c console.Console) *cobra.Command {
	var e flags.Engines
	var folder, source string
	var check bool
	var show func(*driftfleet.Report) error
	cmd := console.Command("snapshot", "Record the drift of the inputs that ml-engine has scored",
		`Snapshot adds up the counts of one or several replicas of ml-engine and judges the sum: the population stability index (PSI)
of every feature against the model's training rows. Each index is compared with its noise, the index that chance gives without
any drift. It writes psi_snapshot.json and figures to the evidence folder.

An index is FAIL above both its threshold (0.2 overall, 0.3 for a feature) and its 99 % quantile without drift. It is
INCONCLUSIVE if it is only above the threshold, or with fewer than 500 rows or 5 days. Replicas with different models or
references are refused. The command exits 0 whatever the verdict; with --check it exits 3 unless the verdict is PASS.`,
		func(ctx context.Context) error {
			if err := e.Validate(); err != nil {
				return err
			}
			if err := checkSource(source); err != nil {
				return err
			}
			var r *driftfleet.Report
			if err := e.Dial(func(replicas []fleet.Engine) (err error) {
				r, err = e.Read(ctx, replicas, true)
				return err
			}); err != nil {
				return err
			}
			for _, replica := range r.Replicas {
				c.Say("engine    %s: %s, digest %.12s, %s", replica.Address, r.Model.Version, r.Model.Digest, text.Count(replica.Rows, "row"))
			}
			if err := errors.Join(sayDrift(c, &r.Report), show(r)); err != nil {
				return err
			}
			header := evidence.Header{Schema: driftfleet.Schema, Source: evidence.Source(source), Model: &r.Model, Git: console.Revision()}
			if err := keepDrift(c, folder, driftfleet.File, r.Sources.Least(header.Source), func(store *evidence.Store) (int, error) {
				return r.Write(store, header)
			}); err != nil {
				return err
			}
			return gated(check, r.Verdict)
		})
	fs := cmd.Flags()
	e.Declare(fs, c)
	fs.StringVar(&source, "source", string(evidence.Live), "where the scored states come from: live, replay or simulated")
	declareCheck(fs, &check)
	flags.Evidence(fs, &folder)
	show = console.Outputs[*driftfleet.Report](c, cmd, driftfleet.Schema)
	return cmd
}

// clearScreen clears a terminal and moves the cursor to its top left.
const clearScreen = "\x1b[H\x1b[2J"

func driftWatchCommand(c console.Console) *cobra.Command {
	var engines flags.Engines
	var w driftfleet.Watch
	cmd := console.Command("watch", "Show the drift of ml-engine's inputs continuously",
		`Watch asks for drift as snapshot does, every --interval, and shows it as a table that is redrawn on a terminal, or as a line
per sample in a pipe. With --out it appends every sample to psi_series.csv in that folder. If an ml-engine does not answer,
watch prints the error and tries again. It ends when it is interrupted, or after --for.`,
		func(ctx context.Context) error {
			if err := engines.Validate(); err != nil {
				return err
			}
			if w.Interval <= 0 || w.Length < 0 {
				return console.Usagef("--interval must be more than 0, and --for 0 or more")
			}
			return engines.Dial(func(replicas []fleet.Engine) error {
				w.Read = func(ctx context.Context) (*driftfleet.Report, error) { return engines.Read(ctx, replicas, false) }
				w.Show = func(now time.Time, r *driftfleet.Report, err error) error {
					if err != nil {
						c.Say("%s  no answer, asking again: %v", stamp(now), err)
						return nil
					}
					return showDrift(c, now, r)
				}
				return w.Run(ctx)
			})
		})
	fs := cmd.Flags()
	engines.Declare(fs, c)
	fs.DurationVar(&w.Interval, "interval", 10*time.Second, "time between two samples")
	fs.DurationVar(&w.Length, "for", 0, "how long to watch; 0 is until interrupted")
	fs.StringVar(&w.Series, "out", "", "folder for psi_series.csv; by default it is not written")
	return cmd
}

// showDrift shows one sample.
func showDrift(c console.Console, now time.Time, r *driftfleet.Report) error {
	if c.Screen == nil {
		c.Say("%s  %s  %s", stamp(now), r.Model.Version, r.Line())
		return nil
	}
	if _, err := c.Screen.WriteString(clearScreen); err != nil {
		return err
	}
	c.Say("%s  %s  %s", stamp(now), r.Model.Version, r.Line())
	return r.Table(c.Out, driftview.NoBins)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
