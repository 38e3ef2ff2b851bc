package driftfleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
)

// sample is a report with an index of 0.5.
func sample() *Report {
	s := &drift.Snapshot{Rows: 700, Days: 7, Overall: drift.Reading{PSI: 0.5, Status: drift.Critical, Samples: 700}}
	return &Report{Report: *driftview.New(s, driftview.Window{Hours: 168}, drift.DefaultLimits()), Model: evidence.Model{Version: "v1.8.1-rc1"}}
}

var errAway = errors.New("engine is away")

// TestWatch takes a sample every ten seconds for 45 seconds. The second and third samples fail.
func TestWatch(t *testing.T) {
	out := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start, samples := time.Now(), 0
		var shown []string
		w := Watch{
			Interval: 10 * time.Second, Length: 45 * time.Second, Series: out,
			Read: func(context.Context) (*Report, error) {
				samples++
				if samples == 2 || samples == 3 {
					return nil, errAway
				}
				return sample(), nil
			},
			Show: func(now time.Time, r *Report, err error) error {
				text := "error"
				if err == nil {
					text = r.Model.Version
				} else if !errors.Is(err, errAway) {
					t.Errorf("shown %v, want %v", err, errAway)
				}
				shown = append(shown, fmt.Sprintf("%v %s", now.Sub(start), text))
				return nil
			},
		}
		err := w.Run(t.Context())
		if took := time.Since(start); err != nil || samples != 5 || took != 45*time.Second {
			t.Errorf("%d samples in %v, %v: want 5 in 45 s", samples, took, err)
		}
		if want := []string{"0s v1.8.1-rc1", "10s error", "20s error", "30s v1.8.1-rc1", "40s v1.8.1-rc1"}; !slices.Equal(shown, want) {
			t.Errorf("shown %q, want %q", shown, want)
		}
	})
	raw, err := os.ReadFile(filepath.Join(out, "psi_series.csv"))
	if err != nil || strings.Count(string(raw), "\n") != 4 || strings.Count(string(raw), ",overall,mean,0.5,critical,") != 3 {
		t.Errorf("the series is %q, %v: want headings and three samples", raw, err)
	}
}

// An interrupt while the watch waits for an answer ends the watch and is not a failure.
func TestWatchInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- Watch{
				Interval: time.Second,
				Read: func(ctx context.Context) (*Report, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				},
				Show: func(_ time.Time, r *Report, err error) error {
					t.Errorf("shown %v, %v: want nothing", r, err)
					return nil
				},
			}.Run(ctx)
		}()
		synctest.Wait()
		interrupt()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A series that cannot be written ends the watch.
func TestWatchWithoutASeries(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := Watch{Interval: time.Second, Series: file}
	if err := w.Run(t.Context()); err == nil {
		t.Error("a watch began without its series")
	}
}
