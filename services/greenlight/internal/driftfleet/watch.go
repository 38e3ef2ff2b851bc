package driftfleet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Watch samples the drift repeatedly.
type Watch struct {
	// Interval is the time between two samples. Length is how long to watch; 0 is until ctx ends.
	Interval, Length time.Duration
	// Series is the folder of psi_series.csv, which gets every sample; empty for none.
	Series string
	// Read takes a sample. Show shows the sample, or the error of Read. An error of Show ends the watch.
	Read func(context.Context) (*Report, error)
	Show func(time.Time, *Report, error) error
}

// Run watches until ctx ends or Length has passed; neither is an error.
func (w Watch) Run(ctx context.Context) (err error) {
	keep := func(time.Time, *Report) error { return nil }
	if w.Series != "" {
		if err := os.MkdirAll(w.Series, 0o755); err != nil {
			return err
		}
		series, openErr := driftview.OpenSeries(filepath.Join(w.Series, "psi_series.csv"))
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, series.Close()) }()
		keep = func(now time.Time, r *Report) error { return series.Add(now, r.Model.Version, &r.Report) }
	}
	if w.Length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.Length)
		defer cancel()
	}
	for {
		r, err := w.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		shown := w.Show(now, r, err)
		if err == nil {
			shown = errors.Join(shown, keep(now, r))
		}
		if shown != nil {
			return shown
		}
		if !traffic.Pause(ctx, w.Interval) {
			return nil
		}
	}
}
