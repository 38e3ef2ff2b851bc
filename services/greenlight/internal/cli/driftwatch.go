package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// clearScreen moves to the top left of a terminal and clears what is there.
const clearScreen = "\x1b[H\x1b[2J"

// driftWatch samples drift again and again.
type driftWatch struct {
	engines  engineFlags
	interval time.Duration
	length   time.Duration
	out      string
}

func driftWatchCommand(c Console) *cobra.Command {
	var w driftWatch
	cmd := &cobra.Command{
		Use: "watch", Short: "Show the drift of what ml-engine scores, over and over",
		Long: `Watch asks for drift as snapshot does, every --interval, and shows it: a table that is redrawn on a terminal, a line per
sample in a pipe. With --out it appends every sample to psi_series.csv in that folder. An ml-engine that does not answer is
told and asked again. It ends when it is interrupted, or after --for.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := w.engines.validate(); err != nil {
				return err
			}
			if w.interval <= 0 || w.length < 0 {
				return usageError{errors.New("--interval is more than 0, --for 0 or more")}
			}
			return w.engines.dial(func(replicas []fleet.Engine) error {
				return w.watch(cmd.Context(), c, func(ctx context.Context) (*driftfleet.Report, error) {
					return w.engines.read(ctx, replicas, false)
				})
			})
		},
	}
	fs := cmd.Flags()
	w.engines.declare(fs, c)
	fs.DurationVar(&w.interval, "interval", 10*time.Second, "time between two samples")
	fs.DurationVar(&w.length, "for", 0, "how long to watch; 0 is until interrupted")
	fs.StringVar(&w.out, "out", "", "folder for psi_series.csv; not written when it is not given")
	return cmd
}

// watch shows and keeps what read says, until it is interrupted or its time is over.
func (w *driftWatch) watch(ctx context.Context, c Console, read func(context.Context) (*driftfleet.Report, error)) (err error) {
	keep := func(time.Time, *driftfleet.Report) error { return nil }
	if w.out != "" {
		if err := os.MkdirAll(w.out, 0o755); err != nil {
			return err
		}
		series, openErr := driftview.OpenSeries(filepath.Join(w.out, "psi_series.csv"))
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, series.Close()) }()
		keep = func(now time.Time, r *driftfleet.Report) error { return series.Add(now, r.Model.Version, &r.Report) }
	}
	if w.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.length)
		defer cancel()
	}
	for {
		r, err := read(ctx)
		if ctx.Err() != nil {
			return nil // stopped, as one stops a watch
		}
		now := time.Now()
		if err != nil {
			c.Say("%s  no answer, asking again: %v", stamp(now), err)
		} else if err := errors.Join(c.showDrift(now, r), keep(now, r)); err != nil {
			return err
		}
		if !traffic.Pause(ctx, w.interval) {
			return nil
		}
	}
}

// showDrift shows one sample.
func (c Console) showDrift(now time.Time, r *driftfleet.Report) error {
	if c.screen == nil {
		c.Say("%s  %s  %s", stamp(now), r.Model.Version, r.Line())
		return nil
	}
	if _, err := c.screen.WriteString(clearScreen); err != nil {
		return err
	}
	c.Say("%s  %s  %s", stamp(now), r.Model.Version, r.Line())
	return r.Table(c.Out, driftview.NoBins)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
