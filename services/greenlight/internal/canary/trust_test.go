package canary

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// hidden is how shadows end if the given fraction of them is not sent, for the reason.
func hidden(why shadow.Outcome, share float64) health {
	return health{shadow.Match: {1 - share, 0.7}, why: {share, 0}}
}

// A phase does not pass if too many of its shadows are unseen, whatever the cause.
func TestCoverage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		health   health
		decision Decision
		reason   string
	}{
		"4 % hidden":                      {hidden(shadow.BreakerOpen, 0.04), Passed, ""},
		"a tenth behind the breaker":      {hidden(shadow.BreakerOpen, 0.1), Stopped, "coverage: 90.0 % is not >= 95 %"},
		"two thirds behind the breaker":   {hidden(shadow.BreakerOpen, 0.66), Aborted, "coverage of 34.0 % is below 80 %"},
		"a quarter shed":                  {hidden(shadow.Shed, 0.25), Aborted, "coverage of 75.0 % is below 80 %"},
		"most given up":                   {hidden(shadow.Canceled, 0.9), Aborted, "coverage of 10.0 % is below 80 %"},
		"none compared, all behind it":    {hidden(shadow.BreakerOpen, 1), Aborted, "coverage of 0.0 % is below 80 % (0 comparisons of"},
		"all shed, with too few to judge": {hidden(shadow.Shed, 1), Stopped, "coverage: 300 samples, 500 needed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(1)
				tr.policy.Phases, tr.policy.HoldLimit = []float64{100}, gate.Duration(time.Hour)
				tr.fakes[0].health = test.health
				if strings.Contains(name, "few") {
					tr.policy.PhaseDuration, tr.policy.HoldLimit = gate.Duration(30*time.Second), 0
					tr.fakes[0].rate = 10
				}
				r := tr.run(t.Context(), t)
				if r.Decision != test.decision || !strings.Contains(r.Reason, test.reason) {
					t.Fatalf("got %s %q, want %s %q", r.Decision, r.Reason, test.decision, test.reason)
				}
				p := r.Phases[0]
				if want := 1 - hiddenShare(test.health); p.Coverage == nil || *p.Coverage < want-0.01 || *p.Coverage > want+0.01 {
					t.Errorf("the phase has the coverage %v, want %v", p.Coverage, want)
				}
			})
		})
	}
}

func hiddenShare(h health) (hidden float64) {
	for o, s := range h {
		if !o.Compared() && !o.Failed() {
			hidden += s.share
		}
	}
	return hidden
}

// Missing counts are taken as the worst case: requests without an outcome were not seen, and shadows without a latency were
// slow.
func TestMissingCountsAreTheWorst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		requests, match, timed uint64
		coverage, p95          gate.Verdict
	}{
		"nothing is missing":       {1000, 1000, 1000, gate.Pass, gate.Pass},
		"4 % have no outcome":      {1000, 960, 960, gate.Pass, gate.Pass},
		"9 % have no outcome":      {1000, 910, 910, gate.Fail, gate.Pass},
		"2 % have no latency":      {1000, 1000, 980, gate.Pass, gate.Pass},
		"9 % have no latency":      {1000, 1000, 910, gate.Pass, gate.Error},
		"a fifth has no latency":   {500, 500, 400, gate.Pass, gate.Error},
		"more latencies than runs": {1000, 1000, 1090, gate.Pass, gate.Pass},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sum := fleet.Sum{Counts: fleet.Counts{
				Requests: test.requests,
				Outcomes: map[string]uint64{shadow.Match.String(): test.match},
				Latency:  fleet.Histogram{Edges: []float64{1, 60, 80}, Counts: []uint64{test.timed, 0, 0, 0}},
			}}
			card := gate.DefaultPolicy().JudgePhase(countsOf(sum, 100, 0).phase)
			for name, want := range map[string]gate.Verdict{gate.PhaseCoverage: test.coverage, gate.PhaseP95: test.p95} {
				for _, r := range card.Results {
					if r.Name == name && r.Verdict != want {
						t.Errorf("%s is %s (%s), want %s", name, r.Verdict, r.Reason, want)
					}
				}
			}
		})
	}
}

// liar is a fake executor that falsifies its reports while it lies.
type liar struct {
	*fakeExecutor

	lies func(*executorv1.GetShadowReportResponse)
}

func (l *liar) GetShadowReport(ctx context.Context, req *executorv1.GetShadowReportRequest, opts ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	r, err := l.fakeExecutor.GetShadowReport(ctx, req, opts...)
	if err == nil && l.lies != nil {
		l.lies(r)
	}
	return r, err
}

// An executor whose reports do not add up passes no phase: the verdict is ERROR, the phase is held and then stopped.
func TestLyingExecutor(t *testing.T) {
	t.Parallel()
	fell := uint64(1 << 30)
	for name, test := range map[string]struct {
		lies func(*executorv1.GetShadowReportResponse)
		want string
	}{
		"no requests":     {func(r *executorv1.GetShadowReportResponse) { r.RequestsTotal = 0 }, "0 requests, but"},
		"unknown outcome": {func(r *executorv1.GetShadowReportResponse) { r.OutcomesTotal[0].Outcome = 99 }, "unknown outcome 99"},
		"no digest":       {func(r *executorv1.GetShadowReportResponse) { r.ShadowDigest, r.ShadowVersion = "", "" }, "no digest of the model"},
		"always in flight": {func(r *executorv1.GetShadowReportResponse) {
			r.InFlight = r.GetRequestsTotal()
			r.RequestsTotal *= 2
		}, "requests and"},
		"not sampled at 100 %": {func(r *executorv1.GetShadowReportResponse) {
			n := r.GetRequestsTotal()
			r.OutcomesTotal[shadow.NotSampled-1].Count += n
			r.RequestsTotal += n
		}, "were not sampled at 100 %"},
		"falls without a restart": {func(r *executorv1.GetShadowReportResponse) {
			fell -= 1000
			r.OutcomesTotal[0].Count += fell
			r.LatencyMsTotal.Counts[0] += fell
			r.RequestsTotal += fell
		}, "counters have fallen, but it has not restarted"},
		"another start": {func(r *executorv1.GetShadowReportResponse) { r.StartTime = r.GetReportTime() }, "start_time has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(1)
				tr.policy.Phases, tr.policy.HoldLimit = []float64{100}, gate.Duration(10*time.Minute)
				tr.opts = func(o *Options) { o.Executors[0].Shadows = &liar{tr.fakes[0], test.lies} }
				r := tr.run(t.Context(), t)
				if r.Decision != Stopped || !strings.Contains(r.Reason, test.want) || !r.RolledBack {
					t.Errorf("got %s %q, want %s with %q", r.Decision, r.Reason, Stopped, test.want)
				}
				tr.atZero(t)
			})
		})
	}
}

// An error text from an executor is bounded everywhere, and cannot control a terminal.
func TestLongErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		tr.policy.Phases, tr.policy.PhaseDuration, tr.policy.HoldLimit = []float64{100}, gate.Duration(time.Minute), gate.Duration(time.Minute)
		tr.fakes[0].network = func(context.Context, string) error {
			return status.Error(codes.Internal, strings.Repeat("\x1b[2Jno\n", 1<<20))
		}
		r := tr.run(t.Context(), t)
		if r.Decision != Stopped || len(r.Reason) > 3000 || strings.ContainsAny(r.Reason, "\x1b\n") {
			t.Errorf("got %s with a reason of %d bytes: %.200q", r.Decision, len(r.Reason), r.Reason)
		}
	})
}

// An ml-engine whose answer names no model gives ERROR: it does not count as serving the right model.
func TestLyingEngine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t)
		s.policy.Phases, s.policy.HoldLimit = []float64{100}, gate.Duration(10*time.Minute)
		run := s.started()
		s.engine.model = evidence.Model{}
		r, err := run.Go(t.Context(), s.services(), nil, nil, nil)
		if err != nil || r.Decision != Stopped || !strings.Contains(r.Reason, "ml-engine engine-a, GetModelInfo: model_version is empty") {
			t.Errorf("got %s %q, %v", r.Decision, r.Reason, err)
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
}

// One executor under two names does not count twice.
func TestOneExecutorUnderTwoNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSetting(t)
		services := s.services()
		again := services.Executors[0]
		again.Addr = "localhost:4020"
		services.Executors = append(services.Executors, again)
		in := s.target.Inspect(t.Context(), services)
		_, err := NewPlan(in, s.target, s.policy, time.Second, evidence.Live)
		if !errors.Is(err, preflight.ErrTwice) || Hint(err) == "" || !strings.Contains(err.Error(), "executor-a and localhost:4020 are one process") {
			t.Errorf("planned: %v (hint %q)", err, Hint(err))
		}
		if card := preflight.Judge(in); card.Verdict().OK() {
			t.Error("the preflight passes")
		}
		all, err := Reports(services.Executors).Read(t.Context())
		if len(all) != 1 || err == nil || !strings.Contains(err.Error(), "would count twice") {
			t.Errorf("read %d of them, %v", len(all), err)
		}
	})
}

// broken panics in one of the controller's calls.
type broken struct {
	*fakeExecutor

	call   string
	armed  bool
	panics int
}

func (b *broken) at(call string) {
	if b.armed && b.call == call {
		b.panics++
		none := make([]int, 0)
		_ = none[b.panics] // panics like a bug in the code
	}
}

func (b *broken) GetRollout(ctx context.Context, req *executorv1.GetRolloutRequest, opts ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	b.at("GetRollout")
	return b.fakeExecutor.GetRollout(ctx, req, opts...)
}

func (b *broken) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest, opts ...grpc.CallOption) (*executorv1.SetRolloutResponse, error) {
	resp, err := b.fakeExecutor.SetRollout(ctx, req, opts...)
	b.at("SetRollout") // the call has taken effect
	return resp, err
}

func (b *broken) AbortRollout(ctx context.Context, req *executorv1.AbortRolloutRequest, opts ...grpc.CallOption) (*executorv1.AbortRolloutResponse, error) {
	b.at("AbortRollout")
	return b.fakeExecutor.AbortRollout(ctx, req, opts...)
}

func (b *broken) GetShadowReport(ctx context.Context, req *executorv1.GetShadowReportRequest, opts ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	b.at("GetShadowReport")
	return b.fakeExecutor.GetShadowReport(ctx, req, opts...)
}

// Read implements Source.
func (b *broken) Read(ctx context.Context) ([]fleet.Counters, error) {
	b.at("Metrics")
	return Reports{{Addr: b.addr, Shadows: b.fakeExecutor}}.Read(ctx)
}

// Wherever the controller panics, the run is aborted, every executor that can be reached is at 0 % immediately, and the record
// and the journal have the reason.
func TestPanicEndsAtZero(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"GetShadowReport", "SetRollout", "Metrics", "ActiveModels", "PSI", "Journal", "Observe", "GetRollout", "AbortRollout"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(2)
				tr.policy.Phases = []float64{50, 100}
				b := &broken{fakeExecutor: tr.fakes[0], call: call}
				var journal []Event
				tr.opts = func(o *Options) {
					o.Executors[0].Rollouts, o.Executors[0].Shadows = b, b
					if call == "Metrics" {
						tr.fakes = tr.fakes[:1]
						o.Executors, o.Metrics = o.Executors[:1], b
					}
					o.ActiveModels = func(context.Context) ([]evidence.Model, error) { b.at("ActiveModels"); return nil, nil }
					o.PSI = func(context.Context) (float64, error) { b.at("PSI"); return 0, nil }
					o.Journal = func(e Event) error { b.at("Journal"); journal = append(journal, e); return nil }
					observe := o.Observe
					o.Observe = func(e Event) { observe(e); b.at("Observe") }
				}
				var armed time.Time
				tr.at = after(0, time.Minute, func() {
					b.armed, armed = true, time.Now()
					if call == "GetRollout" || call == "AbortRollout" { // these are called at the end of the run
						tr.fakes[0].change(func() { tr.fakes[0].health = down })
					}
				})
				r, err := NewController(tr.options()).Run(t.Context())
				if b.panics == 0 {
					t.Fatal("there was no panic")
				}
				if r.Decision != Aborted || !r.Aborted || r.PromoteEligible || r.EndTime.IsZero() {
					t.Fatalf("got %s %q, %v", r.Decision, r.Reason, err)
				}
				if got := decisions(r); !slices.Equal(got, []Decision{Aborted}) {
					t.Errorf("phases %v", got)
				}
				if p := r.Phases[0]; p.Requests == 0 || p.MatchRate == nil || p.P95MS == nil {
					t.Errorf("the phase has lost its figures: %+v", p)
				}
				switch call {
				case "Journal":
					if err == nil || !strings.Contains(err.Error(), "internal error") {
						t.Errorf("got %v", err)
					}
				case "GetRollout", "AbortRollout":
					// The executor that cannot be reached is at 0 % when its lease lapses; the other one does not wait for it.
					if r.RolledBack || tr.fakes[1].rollout.GetSetTime().AsTime().Sub(armed) > 10*time.Second {
						t.Errorf("rolled back %v, the other at %v", r.RolledBack, tr.fakes[1].rollout.GetSetTime().AsTime().Sub(armed))
					}
				default:
					if !r.RolledBack || !strings.Contains(r.Reason, "the controller failed: internal error: runtime error: index out of range [1] with length 0 (trust_test.go:") {
						t.Errorf("rolled back %v, reason %q", r.RolledBack, r.Reason)
					}
				}
				if call != "Journal" {
					last := journal[len(journal)-1]
					if last.Kind != Finished || last.Decision != Aborted || last.Reason == "" {
						t.Errorf("the journal ends with %+v", last)
					}
				}
				time.Sleep(time.Duration(tr.policy.Lease))
				tr.atZero(t)
			})
		})
	}
}

// A phase that an operator ends between two kept polls has the figures of the newest poll.
func TestAbortedPhaseKeepsItsFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		tr.policy.Phases, tr.policy.PhaseDuration = []float64{100}, gate.Duration(24*time.Hour)
		tr.at = after(0, 150*time.Second, func() {
			if _, err := tr.fakes[0].AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{Reason: "enough"}); err != nil {
				t.Error(err)
			}
		})
		r := tr.run(t.Context(), t)
		p := r.Phases[0]
		if r.Decision != Aborted || p.Requests < 15_000 || p.MatchRate == nil || p.Coverage == nil || p.P95MS == nil || *p.P95MS > 1 {
			t.Errorf("got %s with %d requests, match rate %v, coverage %v, p95 %v", r.Decision, p.Requests, p.MatchRate, p.Coverage, p.P95MS)
		}
	})
}

// A phase that is aborted before counting begins shows the figures that it was aborted for.
func TestAbortedEarlyHasItsFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		tr.fakes[0].health = down
		tr.fakes[1].network = cutOff // prevents confirmation by every executor
		r := tr.run(t.Context(), t)
		if p := r.Phases[0]; r.Decision != Aborted || p.Requests == 0 || p.ErrorRate == nil || *p.ErrorRate != 1 {
			t.Errorf("got %s %q with %d requests, error rate %v", r.Decision, r.Reason, p.Requests, p.ErrorRate)
		}
	})
}
