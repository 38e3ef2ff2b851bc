package gatekeeper

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// A gate is not started on an executor that is not ready.
func TestInspect(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*fakeExecutor)
		want   error
	}{
		"without --allow-gated": {func(f *fakeExecutor) { f.forbidden = true }, errNotAllowed},
		"a latch": {func(f *fakeExecutor) {
			f.latches = []*executorv1.GateLatchState{{Latch: executorv1.GateLatch_GATE_LATCH_KILLED, SetBy: "file"}}
		}, errLatched},
		"another model": {func(f *fakeExecutor) { f.model.Digest = strings.Repeat("9", 64) }, errOtherModel},
		"no model":      {func(f *fakeExecutor) { f.model.Version, f.model.Digest = "", "" }, errOtherModel},
		"held":          {func(f *fakeExecutor) { f.rollout.Holder = "a canary" }, errHeld},
		"not reached":   {func(f *fakeExecutor) { f.network = cutOff }, nil},
	} {
		good, bad := newFake("a:1"), newFake("b:2")
		test.change(bad)
		_, err := Inspect(t.Context(), []fleet.Executor{good.executor(), bad.executor()}, testPlan().Plan)
		if err == nil || test.want != nil && (!errors.Is(err, test.want) || Hint(err) == "") || !strings.Contains(err.Error(), "b:2") || strings.Contains(err.Error(), "a:1") {
			t.Errorf("%s: %v", name, err)
		}
		if good.sets+bad.sets > 0 {
			t.Errorf("%s: something was set", name)
		}
	}
	one := newFake("a:1")
	twice := one.executor()
	twice.Addr = "localhost:1"
	if _, err := Inspect(t.Context(), []fleet.Executor{one.executor(), twice}, testPlan().Plan); !errors.Is(err, errTwice) {
		t.Errorf("one process under two names: %v", err)
	}
}

// A kill continues when an executor fails, and names it. It stops the others of the fleet through the keeper. Killed executors
// can be started again only after a person has cleared exactly these latches.
func TestKillAndClear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, 3)
		w.after(time.Minute, 0)
		w.fakes[2].change(func() { w.fakes[2].network = cutOff })
		var out bytes.Buffer
		failed := Lines(&out, Kill(t.Context(), w.executors(), "enough"))
		if failed == nil || strings.Count(out.String(), "killed") != 2 || !strings.Contains(out.String(), "c:3 FAILED") {
			t.Errorf("%v: %s", failed, out.String())
		}
		if w.after(0, 0) || w.after(0, 1) {
			t.Error("the model decides after the kill")
		}
		w.fakes[2].change(func() { w.fakes[2].network = nil })
		w.after(6*time.Second, 0)
		if r := w.finish(); r.Decision != Ended || w.after(0, 2) {
			t.Errorf("%s: %s", r.Decision, r.Reason)
		}

		if _, err := NewClearing(t.Context(), w.executors(), nil, []string{"killed", "drift_alarm"}, "fixed"); err == nil || !strings.Contains(err.Error(), "drift_alarm is not set") {
			t.Errorf("a latch that is not set: %v", err)
		}
		clearing := func(reason string) *Clearing {
			c, err := NewClearing(t.Context(), w.executors(), nil, []string{"killed"}, reason)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if c := clearing("i\xfe" + strings.Repeat("x", 600)); !utf8.ValidString(c.Reason) || len(c.Reason) > 512 {
			t.Errorf("a reason that executors refuse, after the phrase is used: %q", c.Reason)
		}
		c := clearing("fixed")
		ticket, err := w.state.AskClear(c, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Set) != 2 || !strings.HasPrefix(ticket.Phrase, "ONAY: Gate CLEAR killed executors=2 state=") {
			t.Errorf("%+v, %s", c.Set, ticket.Phrase)
		}
		if _, err := w.state.Clear(t.Context(), w.executors(), nil, clearing("no reason"), ticket.Phrase); !errors.Is(err, ErrOtherLatches) {
			t.Errorf("another reason: %v", err)
		}
		// Killed again after the phrase was printed: the phrase does not cover this kill.
		w.fakes[0].change(func() { w.fakes[0].latches[0].LastSetTime = timestamppb.Now() })
		if _, err := w.state.Clear(t.Context(), w.executors(), nil, clearing("fixed"), ticket.Phrase); !errors.Is(err, ErrOtherLatches) {
			t.Errorf("another kill: %v", err)
		}
		if done, err := w.state.Clear(t.Context(), w.executors()[:1], nil, c, ticket.Phrase); err != nil || done[0].Err == nil {
			t.Errorf("another kill while it is cleared: %v, %v", done, err)
		}
		c = clearing("fixed")
		if ticket, err = w.state.AskClear(c, time.Hour); err != nil || !strings.Contains(c.Set[0].String(), "enough, set again at ") {
			t.Fatal(c.Set, err)
		}
		done, err := w.state.Clear(t.Context(), w.executors(), nil, c, ticket.Phrase)
		out.Reset()
		if err := errors.Join(err, Lines(&out, done)); err != nil || strings.Count(out.String(), "cleared; left: none") != 2 || strings.Count(out.String(), "has none of them") != 1 {
			t.Errorf("%v: %s", err, out.String())
		}
		if _, err := w.state.Clear(t.Context(), w.executors(), nil, c, ticket.Phrase); !errors.Is(err, confirmation.ErrUsed) {
			t.Errorf("a second time: %v", err)
		}
		if w.after(time.Minute, 0) {
			t.Error("the gate was opened by clearing")
		}
		if _, err := Inspect(t.Context(), w.executors(), w.plan.Plan); err != nil {
			t.Errorf("after clearing: %v", err)
		}
	})
}

// Stop ends a gate under any lease. Shadows continue at the observe percent, or stop.
func TestStopByAnother(t *testing.T) {
	t.Parallel()
	for _, toOff := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, 1)
			w.after(time.Minute, 0)
			want := 50.0
			if toOff {
				want = 0
			}
			var out bytes.Buffer
			if err := Lines(&out, Stop(t.Context(), w.executors(), nil, toOff, "for lunch")); err != nil {
				t.Fatal(err)
			}
			if w.after(time.Minute, 0) {
				t.Error("the keeper has opened it again")
			}
			if r := w.finish(); r.Decision != Ended || !strings.Contains(r.Reason, "for lunch") {
				t.Errorf("%s: %s", r.Decision, r.Reason)
			}
			w.fakes[0].change(func() {
				if got := w.fakes[0].rollout.GetPercent(); got != want || w.fakes[0].rollout.GetHolder() != "" {
					t.Errorf("%v %% of the requests get a shadow, want %v", got, want)
				}
			})
		})
	}
	if done := Stop(t.Context(), []fleet.Executor{newFake("a:1").executor()}, nil, false, "x"); done[0].Err != nil || done[0].Text != "no gate is set" {
		t.Errorf("without a gate: %+v", done)
	}
}

// The status shows who shut the gate, why and when, and the executor that does not answer. After a restart it shows whether
// the gate waits for its holder, has lapsed or was demoted.
func TestStatus(t *testing.T) {
	t.Parallel()
	open, latched, lost := newFake("a:1"), newFake("b:2"), newFake("c:3")
	restarted, lapsed, demoted := newFake("d:4"), newFake("e:5"), newFake("f:6")
	for _, f := range []*fakeExecutor{open, restarted, lapsed, demoted} {
		if _, err := f.SetRollout(t.Context(), testPlan().request("gate-x", "why", wire.Plan(testPlan().Quality))); err != nil {
			t.Fatal(err)
		}
	}
	demoted.latch(executorv1.GateLatch_GATE_LATCH_KILLED, "token:ops", "fire")
	demoted.change(func() { demoted.latches = nil }) // a person clears it
	for _, f := range []*fakeExecutor{restarted, lapsed, demoted} {
		f.change(f.start)
	}
	lapsed.change(func() { lapsed.expires = time.Now() })
	latched.latch(executorv1.GateLatch_GATE_LATCH_BUDGET_SPENT, "executor", "101 of 100")
	lost.network = cutOff
	var out bytes.Buffer
	executors := []fleet.Executor{open.executor(), latched.executor(), lost.executor(), restarted.executor(), lapsed.executor(), demoted.executor()}
	answers, errs := Read(t.Context(), executors)
	if Status(&out, executors, answers, errs) == nil {
		t.Error("an executor does not answer, and there is no error")
	}
	for _, want := range []string{
		"a:1       open       5 %      GATED", "b:2       latched    0 %      OBSERVE_ONLY", "c:3       ?", "connection refused",
		"d:4       restarted  0 %      OFF", "d:4: it has restarted and is at 0 % until gate-x renews its lease: \"why\"\n",
		"e:5       lapsed     0 %      OFF", "e:5: its rollout was set to 0 %, OFF, by executor, at ", `UTC: "the lease of gate-x lapsed"` + "\n",
		"f:6       demoted    0 %      OBSERVE_ONLY", "f:6: its rollout was set to 50 %, OBSERVE_ONLY, by token:ops, at ",
		"latch     b:2: budget_spent, set by executor at 20", ": 101 of 100\n", "held by gate-x, at ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the status lacks %q:\n%s", want, out.String())
		}
	}
}
