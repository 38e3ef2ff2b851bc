package canary

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// trial is one run in a test.
type trial struct {
	fakes  []*fakeExecutor
	policy gate.Policy
	opts   func(*Options)
	// at is called by the loop for every event, after the event is recorded.
	at     func(Event)
	events []Event
}

func newTrial(n int) *trial {
	tr := &trial{policy: gate.DefaultPolicy()}
	for i := range n {
		tr.fakes = append(tr.fakes, newFake("executor-"+string(rune('a'+i))))
	}
	return tr
}

func (tr *trial) options() Options {
	r := &Record{ID: "run-1", Policy: tr.policy, Phases: []Phase{}, Decision: Running}
	o := Options{
		Record: r, Controller: "first", Source: evidence.Live, Model: testModel, Baseline: testBaseline, Interval: 5 * time.Second,
		PSI: func(context.Context) (float64, error) { return 0.125, nil },
	}
	for _, f := range tr.fakes {
		o.Executors = append(o.Executors, f.executor())
	}
	o.Observe = func(e Event) {
		tr.events = append(tr.events, e)
		if tr.at != nil {
			tr.at(e)
		}
	}
	if tr.opts != nil {
		tr.opts(&o)
	}
	return o
}

func (tr *trial) run(ctx context.Context, t *testing.T) *Record {
	t.Helper()
	r, err := NewController(tr.options()).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// after calls fn at the first poll that comes at least d after the phase began to count.
func after(phase int, d time.Duration, fn func()) func(Event) {
	var begun time.Time
	done := false
	return func(e Event) {
		if e.Kind == Counting && e.Phase == phase && begun.IsZero() {
			begun = e.Time
		}
		if !done && !begun.IsZero() && e.Kind == Polled && e.Time.Sub(begun) >= d {
			done = true
			fn()
		}
	}
}

func decisions(r *Record) []Decision {
	var all []Decision
	for _, p := range r.Phases {
		all = append(all, p.Decision)
	}
	return all
}

func (tr *trial) atZero(t *testing.T) {
	t.Helper()
	for _, f := range tr.fakes {
		if p := f.percent(); p != 0 {
			t.Errorf("%s is at %g %%", f.addr, p)
		}
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		r := tr.run(t.Context(), t)
		if r.Decision != Passed || r.Reason != "" || r.Aborted || !r.RolledBack || !r.PromoteEligible || r.PromoteReason != "" {
			t.Fatalf("got %s %q, rolled back %v, eligible %v %q", r.Decision, r.Reason, r.RolledBack, r.PromoteEligible, r.PromoteReason)
		}
		tr.atZero(t)
		if len(r.Phases) != 5 {
			t.Fatalf("%d phases", len(r.Phases))
		}
		for i, p := range r.Phases {
			if p.Decision != Passed || p.Index != i || p.Percent != tr.policy.Phases[i] {
				t.Errorf("phase %d: %s at %g %%", i, p.Decision, p.Percent)
			}
			if d := p.EndTime.Sub(p.StartTime); d < 30*time.Minute || d > 30*time.Minute+10*time.Second {
				t.Errorf("phase %d took %v", i, d)
			}
			var ended uint64
			for _, n := range p.Outcomes {
				ended += n
			}
			if ended != p.Requests || p.Requests < 2*100*1800 {
				t.Errorf("phase %d: %d requests, %d outcomes", i, p.Requests, ended)
			}
			if p.PSI == nil || *p.PSI != 0.125 || p.MatchRate == nil || *p.MatchRate < 0.98 || p.P95MS == nil || *p.P95MS > 1 || *p.ErrorRate != 0 {
				t.Errorf("phase %d: psi %v, match %v, p95 %v, errors %v", i, p.PSI, p.MatchRate, p.P95MS, p.ErrorRate)
			}
			// All shadows of the share are counted, from two executors with 100 requests a second each.
			truth := tr.fakes[0].truth[p.Percent] + tr.fakes[1].truth[p.Percent]
			if n := p.Samples[len(p.Samples)-1].Comparisons; n > truth || n+uint64(4*p.Percent) < truth {
				t.Errorf("phase %d: %d comparisons, want %d at %g %%", i, n, truth, p.Percent)
			}
			if len(p.Samples) < 200 || len(p.Samples) > maxSamples+1 {
				t.Errorf("phase %d: %d samples", i, len(p.Samples))
			}
		}
	})
}

func TestAborts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ill    func(*fakeExecutor)
		within time.Duration
		reason string
	}{
		"slow":             {func(f *fakeExecutor) { f.health = slow }, 10 * time.Second, "errors: e-value"},
		"wrong":            {func(f *fakeExecutor) { f.health = wrong }, 10 * time.Second, "mismatches: e-value"},
		"down":             {func(f *fakeExecutor) { f.health = down }, 10 * time.Second, "errors: e-value"},
		"another model":    {func(f *fakeExecutor) { f.model = otherModel }, 10 * time.Second, "now compares v1.8-b0 (cccccccccccc)"},
		"another baseline": {func(f *fakeExecutor) { f.baseline = otherModel }, 10 * time.Second, "decides by v1.8-b0"},
		"aborted by an operator": {func(f *fakeExecutor) {
			f.rollout.Percent, f.rollout.Holder, f.rollout.SetBy, f.rollout.SetFrom = 0, "", "token", "10.0.0.7:4711"
			f.rollout.Revision, f.rollout.Reason, f.expires = 99, "disk is full", time.Time{}
		}, 15 * time.Second, `set to 0 %, OBSERVE_ONLY, by token at 10.0.0.7:4711, at`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(2)
				var ill, zero time.Time
				mark := after(2, time.Minute, func() {
					ill = time.Now()
					tr.fakes[0].change(func() { test.ill(tr.fakes[0]) })
				})
				tr.at = func(e Event) {
					mark(e)
					if e.Kind == RolledBack {
						zero = e.Time
						tr.atZero(t)
					}
				}
				r := tr.run(t.Context(), t)
				if r.Decision != Aborted || !strings.Contains(r.Reason, test.reason) || !r.Aborted || !r.RolledBack || r.PromoteEligible {
					t.Fatalf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
				}
				if got := decisions(r); !slices.Equal(got, []Decision{Passed, Passed, Aborted}) {
					t.Errorf("phases %v", got)
				}
				if took := zero.Sub(ill); took > test.within {
					t.Errorf("0 %% after %v, want within %v", took, test.within)
				}
				if r.RollbackMS > 1000 {
					t.Errorf("rollback took %g ms", r.RollbackMS)
				}
			})
		})
	}
}

// A phase that cannot be judged is held until the hold limit and then stopped.
func TestHolds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(*trial)
		verdict gate.Verdict
		reason  string
	}{
		"no traffic": {func(tr *trial) { tr.fakes[0].rate = 0 }, gate.Inconclusive, "0 samples, 500 needed"},
		"too little": {func(tr *trial) { tr.fakes[0].rate = 0.5 }, gate.Inconclusive, "samples, 500 needed"},
		"sluggish":   {func(tr *trial) { tr.fakes[0].health = sluggish }, gate.Fail, "p95 latency"},
		"no metrics": {func(tr *trial) {
			tr.opts = func(o *Options) { o.Metrics = absentSource{} }
		}, gate.Error, "prometheus is down"},
		"an executor is away": {func(tr *trial) { tr.fakes[0].network = cutOff }, gate.Error, "executor-a: Unavailable: connection refused"},
		"an executor hangs":   {func(tr *trial) { tr.fakes[0].network = hangs }, gate.Error, "executor-a: DeadlineExceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(1)
				test.prepare(tr)
				begun := time.Now()
				r := tr.run(t.Context(), t)
				if r.Decision != Stopped || !strings.Contains(r.Reason, test.reason) || !r.Aborted || r.PromoteEligible {
					t.Fatalf("got %s %q", r.Decision, r.Reason)
				}
				if took := time.Since(begun); took < 4*time.Hour || took > 4*time.Hour+31*time.Minute {
					t.Errorf("took %v", took)
				}
				last := r.Phases[len(r.Phases)-1]
				if len(r.Phases) != 1 || last.Decision != Stopped || last.Samples[len(last.Samples)-1].Verdict != test.verdict {
					t.Errorf("%d phases, %s, last verdict %s", len(r.Phases), last.Decision, last.Samples[len(last.Samples)-1].Verdict)
				}
				if len(last.Samples) > maxSamples+1 {
					t.Errorf("%d samples", len(last.Samples))
				}
			})
		})
	}
}

type absentSource struct{}

func (absentSource) Read(context.Context) ([]fleet.Counters, error) {
	return nil, errors.New("prometheus is down")
}

// At one request a second the first phase gets a comparison every twenty seconds.
func TestWaitsForComparisons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		tr.fakes[0].rate = 1
		r := tr.run(t.Context(), t)
		if r.Decision != Passed {
			t.Fatalf("got %s %q", r.Decision, r.Reason)
		}
		if d := r.Phases[0].EndTime.Sub(r.Phases[0].StartTime); d < 500*20*time.Second || d > 510*20*time.Second {
			t.Errorf("phase of 5 %% took %v", d)
		}
		held := 0
		for _, e := range tr.events {
			if e.Kind == Held && e.Phase == 0 {
				held++
			}
		}
		if held == 0 {
			t.Error("there was no Held event")
		}
	})
}

// An executor that does not compare as the policy requires is not judged, whatever it has counted.
func TestAnotherToleranceIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		tr.policy.HoldLimit = gate.Duration(time.Hour)
		tr.at = after(1, time.Minute, func() {
			tr.fakes[1].change(func() { tr.fakes[1].tolerance = 0.2 })
		})
		r := tr.run(t.Context(), t)
		if r.Decision != Stopped || !strings.Contains(r.Reason, "executor executor-b: its match tolerance is 0.2, and that of the policy is 0.05") {
			t.Fatalf("got %s %q", r.Decision, r.Reason)
		}
		last := r.Phases[len(r.Phases)-1]
		if slices.ContainsFunc(last.Verdicts, func(v gate.Result) bool { return v.Verdict != gate.Error }) {
			t.Errorf("got %+v, want ERROR alone", last.Verdicts)
		}
		tr.atZero(t)
	})
}

// A model that differs from the baseline completes its run under the policy improvement, and is aborted under agreement.
func TestImprovement(t *testing.T) {
	t.Parallel()
	differs := health{shadow.Match: {0.4, 0.7}, shadow.Mismatch: {0.6, 0.7}}
	for name, test := range map[string]struct {
		kind     gate.Kind
		decision Decision
		reason   string
	}{
		"agreement":       {gate.Agreement, Aborted, "mismatches: e-value"},
		"an older policy": {"", Aborted, "mismatches: e-value"},
		"improvement":     {gate.Improvement, Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(1)
				tr.policy.Kind = test.kind
				tr.fakes[0].health = differs
				r := tr.run(t.Context(), t)
				if r.Decision != test.decision || !strings.Contains(r.Reason, test.reason) || r.PromoteEligible != (test.decision == Passed) {
					t.Errorf("got %s %q, eligible %v %q, want %s %q", r.Decision, r.Reason, r.PromoteEligible, r.PromoteReason, test.decision, test.reason)
				}
				if rate := r.Phases[0].MatchRate; test.decision == Passed && (rate == nil || *rate < 0.39 || *rate > 0.41) {
					t.Errorf("the phase shows the match rate %v, want 0.4", rate)
				}
				tr.atZero(t)
			})
		})
	}
}
