package page

import (
	"net/http/httptest"
	"testing"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func TestWhoDecides(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*world)
		word   string
		tone   Tone
		why    string
	}{
		"part of the requests": {func(*world) {}, "partly the model", good, "it may decide 95 % of the requests; the model decided 90.00 %, n = 1000"},
		"some symbols":         {func(w *world) { w.rollout.Percent, w.rollout.Gate.AllSymbols = 100, false }, "partly the model", good, "100 %"},
		"everything":           {func(w *world) { w.rollout.Percent = 100 }, "the model", good, "the model decided 90.00 %, n = 1000"},
		"refused too often":    {func(w *world) { w.gate.Decisions[14].Count += 51 }, "partly the model", neutral, "the baseline decides 10 % of what the model may decide; the model decided 85.63 %, n = 1051"},
		"nothing yet":          {func(w *world) { w.gate.Decisions = nil }, "partly the model", good, "no request yet, n = 0"},
		"killed":               {func(w *world) { w.killed() }, "the baseline", bad, "killed by token:alice since Nov 30 03:04:05 UTC; the model decided"},
		"two latches": {func(w *world) {
			w.killed().gate.Latches = append(w.gate.GetLatches(), &executorv1.GateLatchState{Latch: executorv1.GateLatch_GATE_LATCH_BUDGET_SPENT, SetBy: "executor"})
		}, "the baseline", bad, "UTC; budget spent by executor since "},
		"a latch without a gate": {func(w *world) { w.killed().rollout.Gate = nil }, "the baseline", bad, "killed by"},
		"lapsed": {func(w *world) {
			w.gate.Open, w.rollout.Percent, w.rollout.Mode = false, 0, executorv1.RolloutMode_ROLLOUT_MODE_OFF
		}, "the baseline", bad, "the lease has lapsed; "},
		"cleared": {func(w *world) { w.killed().gate.Latches = nil }, "the baseline", bad, "a latch was cleared and the gate not started again; "},
		"restarted": {func(w *world) {
			w.gate.Open, w.rollout.Percent, w.rollout.Mode, w.rollout.AwaitingRenewal = false, 0, executorv1.RolloutMode_ROLLOUT_MODE_OFF, true
		}, "the baseline", bad, "the lease has not been renewed; "},
	} {
		w := newWorld(t).gated()
		tt.change(w)
		st := statusOf(t, w)
		if len(st.Answers) != 6 || st.Decisions == nil || st.Gate == nil || st.Wait == nil {
			t.Errorf("%s: got %d answers, decisions %v, gate %s, wait %v", name, len(st.Answers), st.Decisions, st.Gate, st.Wait)
			continue
		}
		check(t, name, st.Answers[5], tt.word, tt.tone, tt.why)
	}
}

func statusOf(t *testing.T, w *world) *Status {
	t.Helper()
	p := w.start()
	defer func() { _ = p.Stop(t.Context()) }()
	r := httptest.NewRecorder()
	p.mux().ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), "GET", "/status", nil))
	return decoded(t, r.Body.Bytes())
}

// The decisions of the model and of the baseline by reason add up to the requests, and every reason has its place.
func TestDecisionsAddUp(t *testing.T) {
	w := newWorld(t).gated()
	d := statusOf(t, w).Decisions
	sum, at := d.Model, map[string]uint64{}
	for _, r := range d.Reasons {
		sum += r.Count
		at[r.Reason] = r.Total
	}
	if sum != d.N || d.N != 1000 || d.Model != 900 || len(at) != 19 || at["not_selected"] != 50 || at["out_of_domain"] != 30 || at["deadline"] != 20 {
		t.Errorf("got %+v", d)
	}
}

// Without a gate and without a latch, the page is that of an executor that cannot have a gate.
func TestWithoutAGateNothingIsShown(t *testing.T) {
	w := newWorld(t).gated()
	w.rollout = newWorld(t).rollout
	w.gate.Open = false
	st := statusOf(t, w)
	if len(st.Answers) != 5 || st.Gate != nil || st.Decisions != nil || st.Wait != nil {
		t.Errorf("got %d answers, gate %s, decisions %v, wait %v", len(st.Answers), st.Gate, st.Decisions, st.Wait)
	}
}
