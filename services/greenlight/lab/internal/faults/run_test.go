package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// quickly returns options for the real programs and a minimal duration. The ratios mean nothing at this length.
func quickly(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the programs as they are built")
	}
	opts := DefaultOptions()
	opts.Programs, opts.Dir = need.Programs(t, "../../../../..", "ml-engine", "executor"), t.TempDir()
	opts.Models = enginetest.Registry(t, "v1.8.1", "v1")
	var err error
	if opts.Artifact, err = model.OpenRegistry(opts.Models).Load("v1"); err != nil {
		t.Fatal(err)
	}
	data, err := experiment.Simulate(market.SimulateOptions{Seed: 1, Days: 9})
	if err != nil {
		t.Fatal(err)
	}
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		t.Fatal(err)
	}
	minutes := make([]int, 500)
	for i := range minutes {
		minutes[i] = frame.Len() - 1 - i
	}
	if opts.States, err = traffic.States(frame, data.Symbol, minutes, opts.Artifact, data.Source()); err != nil {
		t.Fatal(err)
	}
	opts.Progress, opts.Save = func(int, int) {}, func(*Result) error { return nil }
	opts.Flags = []string{"--breaker-open", "500ms"} // not to wait for it
	opts.Requests, opts.Rounds, opts.Slice, opts.Hang, opts.Overload = 1000, 2, 50*time.Millisecond, time.Second, 0
	return opts
}

// Two faults: one without a recovery, and the name server's, which uses other executors.
func TestRun(t *testing.T) {
	opts := quickly(t)
	opts.Faults = slices.DeleteFunc(opts.Faults, func(f Fault) bool { return f.Name != "answers of another version" && !f.named })
	result, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Rows) != 2 || result.Hang == nil || result.Hang.Requests == 0 {
		t.Fatalf("got %+v", result)
	}
	for _, r := range result.Rows {
		if r.Lost != 0 || r.Changed != 0 || !r.Identical || r.Unaccounted != 0 || r.Requests < 500 || r.Streamed.Requests < r.Requests/4 || r.Streamed.Requests > r.Requests*3/4 || r.RecoveryS < 0 || !(r.P99.Low > 0) {
			t.Errorf("got %+v (%s)", r, r.Why)
		}
	}
	if named := result.Rows[1]; named.Outcomes["unavailable"]+named.Outcomes["breaker_open"] == 0 {
		t.Errorf("%s: the fault does not show: %v", named.Fault, named.Outcomes)
	}
}

// Behind a gate the model decides, and whatever ml-engine answers, no decision is further from the baseline than the cap. The
// latencies mean nothing at this length.
func TestRunGated(t *testing.T) {
	opts := quickly(t)
	opts.Gated, opts.Hang = true, 0
	opts.Faults = slices.DeleteFunc(opts.Faults, func(f Fault) bool { return f.Name != "none" && f.Name != "answers 1" })
	result, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Rows) != 2 {
		t.Fatalf("got %+v", result)
	}
	for _, r := range result.Rows {
		g := r.Gate
		if r.Lost != 0 || r.Changed != 0 || !r.Identical || r.Unaccounted != 0 || g.Distant != 0 || g.Unaccounted != 0 || g.Decisions["model"] == 0 || !(g.BoundMS > 5) {
			t.Errorf("got %+v, gate %+v (%s)", r, g, r.Why)
		}
	}
}
