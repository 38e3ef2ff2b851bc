package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// clearScreen moves to the top left of a terminal and clears what is there.
const clearScreen = "\x1b[H\x1b[2J"

func driftWatchCommand(c console.Console) *cobra.Command {
	var engines flags.Engines
	var w driftfleet.Watch
	cmd := &cobra.Command{
		Use: "watch", Short: "Show the drift of ml-engine's inputs continuously",
		Long: `Watch asks for drift as snapshot does, every --interval, and shows it: a table that is redrawn on a terminal, a line per
sample in a pipe. With --out it appends every sample to psi_series.csv in that folder. An ml-engine that does not answer is
printed and asked again. It ends when it is interrupted, or after --for.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := engines.Validate(); err != nil {
				return err
			}
			if w.Interval <= 0 || w.Length < 0 {
				return console.Usagef("--interval is more than 0, --for 0 or more")
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
				return w.Run(cmd.Context())
			})
		},
	}
	fs := cmd.Flags()
	engines.Declare(fs, c)
	fs.DurationVar(&w.Interval, "interval", 10*time.Second, "time between two samples")
	fs.DurationVar(&w.Length, "for", 0, "how long to watch; 0 is until interrupted")
	fs.StringVar(&w.Series, "out", "", "folder for psi_series.csv; not written when it is not given")
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
