package canary

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Whatever happens to the executors, a phase passes only with real comparisons and after its full duration, and at the end no
// executor samples anything.
func TestNoDataIsNeverAPass(t *testing.T) {
	t.Parallel()
	const runs = 120
	ended, histograms := map[Decision]int{}, 0
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			tr := newTrial(1 + rng.IntN(3))
			tr.policy.PhaseDuration, tr.policy.HoldLimit = gate.Duration(2*time.Minute), gate.Duration(6*time.Minute)
			tr.policy.Lease = gate.Duration(time.Duration(3+rng.IntN(30)) * time.Second)
			tr.policy.MinComparisons = 100
			tr.at = func(e Event) {
				if e.Kind == Polled && rng.IntN(40) == 0 {
					mishap(rng, tr)
				}
			}
			r := tr.run(t.Context(), t)
			ended[r.Decision]++
			for i, p := range r.Phases {
				histograms += keptLatencies(t, p)
				if p.Decision != Passed {
					continue
				}
				last := p.Samples[len(p.Samples)-1]
				var truth uint64
				for _, f := range tr.fakes {
					truth += f.truth[p.Percent]
				}
				if last.Comparisons < 100 || last.Comparisons > truth || last.Verdict != gate.Pass || p.EndTime.Sub(p.StartTime) < 2*time.Minute {
					t.Errorf("seed %d, phase %d passed as %s on %d comparisons of %d after %v", seed, i, last.Verdict, last.Comparisons, truth, p.EndTime.Sub(p.StartTime))
				}
			}
			if r.Decision == Passed && (r.next() != len(tr.policy.Phases) || !r.RolledBack && len(tr.fakes) == 1 && tr.fakes[0].network == nil) {
				t.Errorf("seed %d: passed after phase %d, rolled back %v", seed, r.next(), r.RolledBack)
			}
			time.Sleep(time.Duration(tr.policy.Lease))
			tr.atZero(t)
		})
	}
	if histograms < runs {
		t.Errorf("%d phases of %d runs have a histogram", histograms, runs)
	}
	if ended[Passed] < runs/20 || ended[Aborted] < runs/20 || ended[Stopped] < runs/20 {
		t.Errorf("the runs ended as %v: too few of each for a conclusion", ended)
	}
}

// keptLatencies checks the histogram of a phase against its shadows and its p95, and returns the number of histograms. At most
// 95 % of the shadows may be below the bucket of the p95, and at least 95 % up to its upper edge. Shadows without a latency
// count as the slowest.
func keptLatencies(t *testing.T, p Phase) int {
	t.Helper()
	if (p.P95MS == nil) != (p.Latency == nil) {
		t.Fatalf("p95 %v, histogram %v: want both or neither", p.P95MS, p.Latency)
	}
	if p.P95MS == nil {
		return 0
	}
	last := p.Samples[len(p.Samples)-1]
	tried := float64(last.Comparisons + last.Errors)
	if timed := float64(p.Latency.Total()); timed < 0.97*tried || timed > tried+100 {
		t.Errorf("the histogram has %v of %v shadows", timed, tried)
	}
	var below, upTo float64
	for i, n := range p.Latency.Counts {
		if i == len(p.Latency.Edges) || p.Latency.Edges[i] >= *p.P95MS {
			upTo = below + float64(n)
			break
		}
		below += float64(n)
	}
	all := max(tried, float64(p.Latency.Total()))
	if below > 0.95*all+1e-6 || upTo < 0.95*all-1e-6 && *p.P95MS < p.Latency.Edges[len(p.Latency.Edges)-1] {
		t.Errorf("a p95 of %v ms: %v of %v shadows are in lower buckets, %v up to its own", *p.P95MS, below, all, upTo)
	}
	return 1
}

// mishap breaks or repairs one of the executors.
func mishap(rng *rand.Rand, tr *trial) {
	f := tr.fakes[rng.IntN(len(tr.fakes))]
	switch rng.IntN(8) {
	case 0:
		f.restart()
	case 1:
		f.change(func() { f.network = cutOff })
	case 2:
		f.change(func() { f.network = hangs })
	case 3:
		f.change(func() { f.rate = 0 })
	case 4:
		f.change(func() { f.health = []health{slow, wrong, down, sluggish}[rng.IntN(4)] })
	case 5:
		time.Sleep(time.Duration(rng.IntN(40)) * time.Second)
	default:
		f.change(func() { f.network, f.rate, f.health = nil, 100, healthy })
	}
}
