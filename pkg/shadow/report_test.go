package shadow

import (
	"math"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// note records a request with the result.
func (tr *trial) note(r Result) {
	tr.recorder.begin(Live)
	tr.recorder.record(r, &Request{})
}

func within(t *testing.T, what string, got *float64, want, tolerance float64) {
	t.Helper()
	if got == nil {
		t.Errorf("%s is absent, want %v", what, want)
	} else if math.Abs(*got-want) > tolerance {
		t.Errorf("%s: got %v, want %v", what, *got, want)
	}
}

func counts(list []*executorv1.OutcomeCount) map[Outcome]uint64 {
	m := map[Outcome]uint64{}
	for _, c := range list {
		m[Outcome(c.GetOutcome())] = c.GetCount()
	}
	return m
}

func TestReportWithoutData(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		r := tr.Report()
		w := r.GetWindow()
		for what, v := range map[string]*float64{
			"match_rate": w.MatchRate, "match_rate_low": w.MatchRateLow, "match_rate_high": w.MatchRateHigh,
			"coverage": w.Coverage, "match_rate_worst": w.MatchRateWorst, "match_rate_best": w.MatchRateBest,
			"error_rate": w.ErrorRate, "mean_delta": w.MeanDelta,
		} {
			if v != nil {
				t.Errorf("%s: got %v, want it absent", what, *v)
			}
		}
		if w.GetAbsDelta().GetCount() != 0 || w.GetLatencyMs().GetCount() != 0 {
			t.Error("quantiles without comparisons")
		}
		if got, want := len(r.GetOutcomesTotal()), len(Outcomes()); got != want || len(w.GetOutcomes()) != want {
			t.Errorf("outcomes: got %d in total, %d in the window, want all %d", got, len(w.GetOutcomes()), want)
		}
		if w.GetLength().AsDuration() != 10*time.Minute || r.GetShadowVersion() != "" {
			t.Errorf("window %v, version %q; want 10m and none", w.GetLength().AsDuration(), r.GetShadowVersion())
		}
		if b := r.GetBreaker(); b.GetState() != closed || !b.GetBlind() || b.GetNextProbeTime() != nil {
			t.Errorf("breaker: got %v, want closed and blind", b)
		}
		// Requests that are not sampled are not shadows.
		tr.Skip(Request{})
		if w := tr.Report().GetWindow(); w.Coverage != nil || w.MatchRateWorst != nil || w.ErrorRate != nil {
			t.Error("rates of a request that was not sampled")
		}
	})
}

func TestReportRates(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		for _, r := range []Result{
			{Outcome: Match, Delta: 0.02, Latency: 2 * time.Millisecond, Version: "v1", Digest: "d1"},
			{Outcome: Match, Delta: -0.04, Latency: 4 * time.Millisecond, Version: "v1", Digest: "d1"},
			{Outcome: Match, Delta: 0, Latency: time.Millisecond, Version: "v1", Digest: "d1"},
			{Outcome: Mismatch, Delta: -1, Latency: 11 * time.Second, Version: "v2", Digest: "d2"},
			{Outcome: Deadline},
			{Outcome: Unavailable},
			{Outcome: InvalidScore},
			{Outcome: Rejected},
			{Outcome: Internal},
			{Outcome: Shed},
			{Outcome: BreakerOpen},
			{Outcome: Canceled},
			{Outcome: NotSampled},
			{Outcome: NotSampled},
		} {
			tr.note(r)
		}
		tr.recorder.begin(Replay) // still in flight
		r := tr.Report()
		if r.GetRequestsTotal() != 15 || r.GetInFlight() != 1 {
			t.Errorf("requests %d, in flight %d; want 15 and 1", r.GetRequestsTotal(), r.GetInFlight())
		}
		for i, want := range []uint64{14, 1, 0} {
			if got := r.GetSourcesTotal()[i]; got.GetSource() != Sources()[i].proto() || got.GetCount() != want {
				t.Errorf("source %d: got %v, want %d requests of %v", i, got, want, Sources()[i])
			}
		}
		w := r.GetWindow()
		if w.GetComparisons() != 4 {
			t.Errorf("comparisons: got %d, want 4", w.GetComparisons())
		}
		within(t, "match_rate", w.MatchRate, 3./4, 0)
		within(t, "match_rate_low", w.MatchRateLow, 0.3006418425824019, 1e-12) // Wilson, 3 of 4, computed independently
		within(t, "match_rate_high", w.MatchRateHigh, 0.9544127391902995, 1e-12)
		within(t, "coverage", w.Coverage, 4./12, 1e-15)
		within(t, "match_rate_worst", w.MatchRateWorst, 3./12, 1e-15)
		within(t, "match_rate_best", w.MatchRateBest, 11./12, 1e-15)
		within(t, "error_rate", w.ErrorRate, 5./9, 1e-15)
		within(t, "mean_delta", w.MeanDelta, (0.02-0.04-1)/4, 1e-15)
		within(t, "largest delta", &w.AbsDelta.Max, 1, 0)
		within(t, "median delta", &w.AbsDelta.P50, 0.02, 0.0002)
		within(t, "p99 of delta", &w.AbsDelta.P99, 1, 0)
		within(t, "largest latency", &w.LatencyMs.Max, 10_000, 0) // capped at 10 s
		within(t, "median latency", &w.LatencyMs.P50, 2, 0.02)
		if r.GetShadowVersion() != "v2" || r.GetShadowDigest() != "d2" {
			t.Errorf("last model: got %s, want v2", r.GetShadowVersion())
		}
		for list, got := range map[string]map[Outcome]uint64{
			"total": counts(r.GetOutcomesTotal()), "window": counts(w.GetOutcomes()),
		} {
			if got[Match] != 3 || got[NotSampled] != 2 || got[Shed] != 1 || got[Canceled] != 1 {
				t.Errorf("%s: got %v", list, got)
			}
		}
		tr.recorder.record(Result{Outcome: Canceled}, &Request{})
	})
}

// A quantile never exceeds the largest value seen.
func TestQuantilesStayWithinWhatWasSeen(t *testing.T) {
	for _, v := range []int64{0, 1, 59_999, 60_000, 79_999, 80_000, 999_999, 1_000_000, 2_000_000} {
		d := newDistribution(1_000_000)
		d.add(v)
		q := d.quantiles(1)
		want := float64(min(v, 1_000_000))
		if q.GetMax() != want || q.GetP50() != want || q.GetP99() != want {
			t.Errorf("of %d alone: got p50 %v, p99 %v, max %v; want %v", v, q.GetP50(), q.GetP99(), q.GetMax(), want)
		}
	}
}

func TestWindowRollsOver(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.Window = time.Minute })
		tr.note(Result{Outcome: Mismatch, Delta: 0.5, Latency: time.Millisecond})
		time.Sleep(30 * time.Second)
		tr.note(Result{Outcome: Match, Delta: 0.01, Latency: time.Millisecond})
		if matches, n := tr.recorder.compared(); matches != 1 || n != 2 {
			t.Errorf("after 30 s: got %d of %d, want 1 of 2", matches, n)
		}
		time.Sleep(30*time.Second - 1)
		if _, n := tr.recorder.compared(); n != 2 {
			t.Errorf("just before a minute: got %d comparisons, want 2", n)
		}
		time.Sleep(time.Nanosecond)
		if matches, n := tr.recorder.compared(); matches != 1 || n != 1 {
			t.Errorf("after a minute: got %d of %d, want 1 of 1", matches, n)
		}
		w := tr.Report().GetWindow()
		if w.GetComparisons() != 1 || w.GetAbsDelta().GetCount() != 1 || w.GetAbsDelta().GetMax() != 0.01 {
			t.Errorf("after a minute: got %v", w)
		}
		time.Sleep(10 * time.Minute)
		if matches, n := tr.recorder.compared(); matches != 0 || n != 0 {
			t.Errorf("after a long silence: got %d of %d, want no data", matches, n)
		}
		tr.note(Result{Outcome: Match, Delta: 0.02, Latency: time.Millisecond}) // into a slot that was used before
		if w := tr.Report().GetWindow(); w.GetComparisons() != 1 || w.GetAbsDelta().GetMax() != 0.02 || w.GetLatencyMs().GetCount() != 1 {
			t.Errorf("after the silence: got %v, want the one comparison alone", w)
		}
		if got := counts(tr.Report().GetOutcomesTotal()); got[Match] != 2 || got[Mismatch] != 1 {
			t.Errorf("totals: got %v, want them to last", got)
		}
	})
}

// However fast shadows end, a report accounts for every request. It has a latency for every shadow that was tried, except
// for a few that ended while it was read.
func TestReportIsOneSnapshot(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					tr.note(Result{Outcome: Match, Latency: time.Millisecond, Version: "v1.8.1", Digest: "d"})
					tr.note(Result{Outcome: NotSampled})
				}
			}
		}()
		for range 200 {
			r := tr.Report()
			total := counts(r.GetOutcomesTotal())
			var timed uint64
			for _, n := range r.GetLatencyMsTotal().GetCounts() {
				timed += n
			}
			if r.GetRequestsTotal() != total[Match]+total[NotSampled]+r.GetInFlight() {
				t.Fatalf("%d requests, %v, %d in flight", r.GetRequestsTotal(), total, r.GetInFlight())
			}
			if away := max(timed, total[Match]) - min(timed, total[Match]); away > 64 {
				t.Fatalf("%d latencies of %d shadows", timed, total[Match])
			}
		}
		close(stop)
		<-done
	})
}
