package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
)

// sample is a report with an index of 0.5.
func sample() *driftfleet.Report {
	s := &drift.Snapshot{Rows: 700, Days: 7, Overall: drift.Reading{PSI: 0.5, Status: drift.Critical, Samples: 700}}
	return &driftfleet.Report{Report: *driftview.New(s, driftview.Window{Hours: 168}, drift.DefaultLimits()), Model: evidence.Model{Version: "v1.8.1-rc1"}}
}

var errAway = errors.New("engine is away")

// TestWatch takes a sample every ten seconds for 45 seconds, of which the second and third fail.
func TestWatch(t *testing.T) {
	out := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		w := driftWatch{interval: 10 * time.Second, length: 45 * time.Second, out: out}
		start, samples := time.Now(), 0
		err := w.watch(t.Context(), console.Console{Out: &told, Err: io.Discard}, func(context.Context) (*driftfleet.Report, error) {
			samples++
			if samples == 2 || samples == 3 {
				return nil, errAway
			}
			return sample(), nil
		})
		if took := time.Since(start); err != nil || samples != 5 || took != 45*time.Second {
			t.Errorf("%d samples in %v, %v: want 5 in 45 s", samples, took, err)
		}
		lines := strings.Split(strings.TrimSuffix(told.String(), "\n"), "\n")
		if len(lines) != 5 {
			t.Fatalf("told %q, want 5 lines", lines)
		}
		for i, line := range lines {
			want := "v1.8.1-rc1  overall PSI 0.500 (critical), noise not known, 700 rows of 7 days: "
			if i == 1 || i == 2 {
				want = "no answer, asking again: engine is away"
			}
			if want = stamp(start.Add(time.Duration(i)*10*time.Second)) + "  " + want; !strings.HasPrefix(line, want) {
				t.Errorf("line %d is %q, want %q", i, line, want)
			}
		}
	})
	raw, err := os.ReadFile(filepath.Join(out, "psi_series.csv"))
	if err != nil || strings.Count(string(raw), "\n") != 4 || strings.Count(string(raw), ",overall,mean,0.5,critical,") != 3 {
		t.Errorf("the series is %q, %v: want headings and three samples", raw, err)
	}
}

// An interrupt while an answer is awaited ends the watch, and is no failure.
func TestWatchInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		var told bytes.Buffer
		done := make(chan error)
		go func() {
			w := driftWatch{interval: time.Second}
			done <- w.watch(ctx, console.Console{Out: &told, Err: io.Discard}, func(ctx context.Context) (*driftfleet.Report, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}()
		synctest.Wait()
		interrupt()
		if err := <-done; err != nil || told.Len() != 0 {
			t.Errorf("told %q, %v: want nothing", told.String(), err)
		}
	})
}

// A series that cannot be written ends the watch.
func TestWatchWithoutASeries(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := driftWatch{interval: time.Second, out: file}
	if err := w.watch(t.Context(), console.Console{Out: io.Discard}, nil); err == nil {
		t.Error("a watch began without its series")
	}
}
