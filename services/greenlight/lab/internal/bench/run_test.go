package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// TestRun runs one short measurement with the real programs, and checks that every row exists and is a number. The values mean
// nothing at this length.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the programs as they are built")
	}
	opts := options(t)
	var done, total int
	opts.Progress = func(d, n int) { done, total = d, n }

	result, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if done != total || done != 2*segments {
		t.Errorf("progress ended at %d of %d, want %d", done, total, 2*segments)
	}
	if got := len(result.Rows); got < 20 {
		t.Errorf("got %d rows, want at least 20", got)
	}
	for _, r := range result.Rows {
		if s := r.Achieved; !(s.Min <= s.Median && s.Median <= s.Max) || s.Rounds != 2 || r.Unit == "x" && !(s.Min > 0) {
			t.Errorf("%s, %s: got %+v", r.What, r.Measure, s)
		}
	}
	for _, s := range result.Sides {
		if !(s.Throughput.Min > 0 && s.P99US.Median >= s.P50US.Median && s.P50US.Min > 0) {
			t.Errorf("%s: got %+v", s.Name, s)
		}
	}
	if _, err := json.Marshal(result); err != nil {
		t.Error(err)
	}
	var table strings.Builder
	if err := result.Table(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{engineSide, shadowOff, shadowOn, "executor, engine hangs", "executor, engine dies", "executor, engine answers garbage", decideOff, decideOneOff, "Decide, engine hangs", "Decide, engine dies", "Decide, engine answers garbage", pingPong, inGroup + " / no group", "goodput at 5x", "shed at 70 %", "rows/s"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
}

// TestRunScale measures each curve at its smallest sizes, with the real programs.
func TestRunScale(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the programs as they are built")
	}
	for _, sizes := range []*[]int{&batchSizes, &callCounts, &replicaCounts, &symbolCounts, &featureCounts, &treeCounts} {
		all := *sizes
		*sizes = all[:2]
		t.Cleanup(func() { *sizes = all })
	}
	all := rateCounts
	rateCounts = all[2:] // a low rate takes longest, until it has its decisions
	t.Cleanup(func() { rateCounts = all })
	s, err := RunScale(t.Context(), options(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Curves) != 13 || s.Machine.CPUs == 0 {
		t.Errorf("got %d curves on %d CPUs, want 13", len(s.Curves), s.Machine.CPUs)
	}
	for _, c := range s.Curves {
		if len(c.Points) != 2 {
			t.Errorf("%s: %d points, want 2", c.Of, len(c.Points))
		}
		for _, p := range c.Points {
			if v := p.Value; v.Rounds != 2 || !(v.Min >= 0 && v.Median >= v.Min) || c.Unit == "1/s" && v.Min == 0 {
				t.Errorf("%s, %s of %d: %+v", c.Of, c.Measure, p.Size, v)
			}
		}
	}
}

// options configure a minimal measurement with the real programs.
func options(t *testing.T) Options {
	t.Helper()
	opts := Options{Services: process.Services{Programs: need.Programs(t, "../../../../..", "ml-engine", "executor", "greenlight-lab")}, Dir: t.TempDir(), Rounds: 2, Closed: 40 * time.Millisecond, Open: 40 * time.Millisecond, Tail: 40 * time.Millisecond, WarmUp: 5 * time.Millisecond, Progress: func(int, int) {}}
	opts.Self = opts.Programs + "/greenlight-lab"
	opts.Models = enginetest.Registry(t, "v1.8.1", "v1")
	var err error
	if opts.Artifact, err = model.OpenRegistry(opts.Models).Load("v1"); err != nil {
		t.Fatal(err)
	}
	opts.States = states(t, opts.Artifact)
	return opts
}

// states returns random states with their expected scores.
func states(t *testing.T, a *model.Artifact) []traffic.State {
	t.Helper()
	inputs, err := feature.NewSchema("inputs", a.Baseline.Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	list := make([]traffic.State, 100)
	for i := range list {
		x := enginetest.Vector(rng, a.Schema)
		named := map[string]float64{}
		for j, f := range a.Schema.Features {
			named[f.Name] = x[j]
		}
		base := make([]float64, inputs.Len())
		for j, f := range inputs.Features {
			base[j] = named[f.Name]
		}
		list[i] = traffic.State{
			ID: fmt.Sprintf("TEST-%04d", i), Symbol: "TEST", Time: timestamppb.New(time.Unix(int64(i)*60, 0)),
			Vector: x, Named: named, Score: a.Scorer.Score(x), Baseline: a.Baseline.Score(base),
		}
	}
	return list
}

func TestTableSaysWhatWasMissed(t *testing.T) {
	r := Result{Header: Header{Rounds: 5, Machine: rig.Machine{CPUs: 2, OtherLoad: 0.25}}, Rows: []Row{
		{What: "a / b", Measure: "throughput", Op: ">=", Target: 0.9, Unit: "x", Achieved: Spread{0.95, 0.91, 0.99, 5}, Low: 0.92, High: 0.98, Reached: true},
		{What: "a / b", Measure: "p99", Op: "<=", Target: 1.1, Unit: "x", Achieved: Spread{1.5, 1.2, 2.25, 5}},
		{What: "a", Measure: "shed", Op: "<=", Achieved: Spread{Rounds: 5}, Reached: true},
	}}
	var b strings.Builder
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		">= 0.90x  0.95x     0.92x..0.98x  0.91x..0.99x  reached", "<= 1.10x  1.50x", "1.20x..2.25x  MISSED", "<= 0      0",
		"25 % of them busy with other work",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
