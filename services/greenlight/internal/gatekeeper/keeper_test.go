package gatekeeper

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/journal"
)

// start starts the gate on n fakes, in a synctest bubble.
func start(t *testing.T, n int) *trial {
	t.Helper()
	dir := t.TempDir()
	w := &trial{t: t, state: State(filepath.Join(dir, "state")), done: make(chan struct{})}
	q := testPlan()
	w.plan = written(t, filepath.Join(dir, "evidence"), q.Plan)
	for i := range n {
		w.fakes = append(w.fakes, newFake([]string{"a:1", "b:2", "c:3"}[i]))
	}
	ticket, err := w.state.Issue(w.plan, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	in, err := Inspect(t.Context(), w.executors(), w.plan.Plan)
	if err != nil {
		t.Fatal(err)
	}
	if w.run, err = w.state.Begin(w.plan, ticket); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	go func() {
		defer close(w.done)
		w.ended = errors.Join(NewKeeper(w.run, in, nil).Run(ctx), w.run.Close())
	}()
	return w
}

// written writes a plan to an evidence folder.
func written(t *testing.T, folder string, p *Plan) *PlanFile {
	t.Helper()
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Write(store, folder, "test")
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (w *trial) executors() (all []fleet.Executor) {
	for _, f := range w.fakes {
		all = append(all, f.executor())
	}
	return all
}

// finish stops the run if it has not ended, and returns its record, which must pass its recheck.
func (w *trial) finish() *Record {
	w.t.Helper()
	w.stop()
	<-w.done
	if w.ended != nil {
		w.t.Fatal(w.ended)
	}
	r := w.run.Record
	if found := r.Recheck(evidence.Simulated, w.plan.Plan); len(found) > 0 {
		w.t.Errorf("the record does not hold: %q", found)
	}
	return r
}

// after waits, and reports whether the model may then decide at the fake.
func (w *trial) after(d time.Duration, fake int) (open bool) {
	time.Sleep(d)
	synctest.Wait()
	w.fakes[fake].change(func() { open = w.fakes[fake].open() })
	return open
}

func kinds(r *Record) (all []string) {
	for _, e := range r.Events {
		all = append(all, strings.TrimSpace(string(e.Kind)+" "+e.Executor))
	}
	return all
}

// An undisturbed gate stays open for hours. When it is stopped, shadows continue at the observe percent, and the counts of the
// record match the executors'.
func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, 2)
		for range 100 {
			if !w.after(3*time.Minute, 0) {
				t.Fatal("the gate is shut")
			}
		}
		r := w.finish()
		want := []string{"started", "opened a:1", "opened b:2", "stopping", "off a:1", "off b:2", "finished"}
		if diff := cmp.Diff(want, kinds(r)); diff != "" {
			t.Errorf("events: %s", diff)
		}
		if r.Decision != Stopped || !r.Off || len(r.Processes) != 2 {
			t.Errorf("%s, off %v, %d processes; want it STOPPED", r.Decision, r.Off, len(r.Processes))
		}
		if n := r.Sources[evidence.Simulated]; n < r.Requests-2000 || n > r.Requests+2000 || r.Sources.Least(evidence.Live) != evidence.Simulated {
			t.Errorf("%d of %d requests are simulated, and all were", n, r.Requests)
		}
		for i, f := range w.fakes {
			f.change(func() {
				if f.rollout.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY || f.rollout.GetPercent() != 50 || f.rollout.GetHolder() != "" {
					t.Errorf("left at %v", f.rollout)
				}
				if got, want := r.Processes[i].End[byModel], f.decisions[0]; got != want || want < 80_000 {
					t.Errorf("the record has %d decisions by the model, and the executor made %d", got, want)
				}
				if len(f.rollout.GetPlan().GetDigest()) != 64 {
					t.Error("the quality plan was lost")
				}
			})
		}
		// The journal matches the keeper's events.
		_, events, err := journal.Read[Event](filepath.Join(w.run.Dir, journal.Name), journalSchema)
		if err != nil {
			t.Fatal(err)
		}
		again := newRecord(w.plan, journal.Head{Run: r.ID, Confirmation: r.Confirmation})
		for _, e := range events {
			again.apply(e)
		}
		if diff := cmp.Diff(r.Processes, again.Processes); diff != "" {
			t.Errorf("the journal has other counts: %s", diff)
		}
		if !slices.Equal(kinds(again), kinds(r)) {
			t.Errorf("the journal has %q", kinds(again))
		}
	})
}

// A partition: within the lease, the model stops deciding there, and the other executor stays open. Afterwards the gate
// reopens, because the lease only lapsed.
func TestPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, 2)
		w.after(time.Minute, 0)
		cut := time.Now()
		w.fakes[0].change(func() { w.fakes[0].network = cutOff })
		if w.after(31*time.Second, 0) {
			t.Fatal("the model decides after the lease")
		}
		if !w.after(5*time.Minute, 1) {
			t.Fatal("the other executor was stopped too")
		}
		w.fakes[0].change(func() {
			if late := w.fakes[0].gatedUntil.Sub(cut); late > 30*time.Second {
				t.Errorf("the model decided for %s after the partition, the lease is 30s", late)
			}
			w.fakes[0].network = nil
		})
		if !w.after(6*time.Second, 0) {
			t.Fatal("the gate was not opened again")
		}
		want := []string{"started", "opened a:1", "opened b:2", "not_renewed a:1", "lapsed a:1", "resumed a:1", "renewed a:1", "stopping", "off a:1", "off b:2", "finished"}
		if diff := cmp.Diff(want, kinds(w.finish())); diff != "" {
			t.Errorf("events: %s", diff)
		}
	})
}

// Somebody else has set the rollout during the partition: the gate stays closed there, and is stopped everywhere.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fakeExecutor){
		"after the lapse": func(f *fakeExecutor) {
			f.rollout = &executorv1.Rollout{Revision: f.rollout.GetRevision() + 1, Percent: 3, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, SetBy: "token:eve", Reason: "mine"}
		},
		"a changed and lapsed rollout": func(f *fakeExecutor) {
			f.rollout = &executorv1.Rollout{Revision: f.rollout.GetRevision() + 2, SetBy: "executor", Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Gate: f.rollout.GetGate()}
		},
		"a lost state": func(f *fakeExecutor) {
			f.rollout = &executorv1.Rollout{Revision: 1, SetBy: "executor", Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF}
			f.process++
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, 2)
				w.after(time.Minute, 0)
				w.fakes[0].change(func() { w.fakes[0].network = cutOff })
				w.after(time.Minute, 0)
				w.fakes[0].change(func() { change(w.fakes[0]); w.fakes[0].network = nil })
				<-w.done
				if w.after(0, 0) || w.after(0, 1) {
					t.Error("the model decides")
				}
				w.fakes[0].change(func() {
					if by := w.fakes[0].rollout.GetSetBy(); by == "token:eve" && w.fakes[0].rollout.GetPercent() != 3 {
						t.Error("the rollout of somebody else was changed")
					}
				})
				if r := w.finish(); r.Decision != Ended || !slices.Contains(kinds(r), "taken a:1") {
					t.Errorf("%s: %s, %q", r.Decision, r.Reason, kinds(r))
				}
			})
		})
	}
}

// A restart within the lease and one beyond it: the gate reopens, and the decisions of the new process count from 0.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]time.Duration{"within the lease": 5500 * time.Millisecond, "beyond it": 60500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, 1)
				w.after(time.Minute, 0)
				w.fakes[0].change(func() { w.fakes[0].network = cutOff })
				time.Sleep(down)
				w.fakes[0].change(func() { w.fakes[0].start(); w.fakes[0].network = nil })
				if w.after(0, 0) {
					t.Error("the model decides before the renewal")
				}
				if !w.after(6*time.Second, 0) {
					t.Error("the gate was not opened again")
				}
				w.after(time.Minute, 0)
				r := w.finish()
				if n := r.Processes[0].Requests; n < 5800 || n > 6100 { // the minute before the restart, except its last seconds
					t.Errorf("the process before had %d requests", n)
				}
				if !slices.Contains(kinds(r), "restarted a:1") || !slices.Contains(kinds(r), "resumed a:1") || len(r.Processes) != 2 || len(r.Processes[1].Start) != 0 {
					t.Errorf("%q, processes %+v", kinds(r), r.Processes)
				}
			})
		})
	}
}

// A latch at one executor stops the gate on all others within six seconds, permanently.
func TestLatchStopsTheFleet(t *testing.T) {
	t.Parallel()
	for l := executorv1.GateLatch_GATE_LATCH_KILLED; l <= executorv1.GateLatch_GATE_LATCH_BUDGET_SPENT; l++ {
		t.Run(fleet.Latch(l), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, 3)
				w.after(time.Minute, 0)
				w.fakes[1].latch(l, "executor", "for a test")
				if w.after(6*time.Second, 0) || w.after(0, 1) || w.after(0, 2) {
					t.Error("the model still decides somewhere")
				}
				r := w.finish()
				if r.Decision != Ended || r.Reason != "executor b:2: "+fleet.Latch(l)+" by executor: for a test" {
					t.Errorf("%s: %s", r.Decision, r.Reason)
				}
				if got := r.Processes[1].Latches; len(got) != 1 || got[0].Name != fleet.Latch(l) {
					t.Errorf("latches %+v", got)
				}
				for _, f := range w.fakes {
					f.change(func() {
						if f.rollout.GetPercent() != 50 {
							t.Errorf("%s is at %v %%", f.addr, f.rollout.GetPercent())
						}
					})
				}
			})
		})
	}
}

// An executor that cannot be stopped is not reported as off.
func TestNotReadBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, 2)
		w.after(time.Minute, 0)
		w.fakes[0].change(func() { w.fakes[0].network = cutOff })
		if r := w.finish(); r.Off || !slices.Contains(kinds(r), "not_off a:1") || !slices.Contains(kinds(r), "off b:2") {
			t.Errorf("off %v, %q", r.Off, kinds(r))
		}
		if w.after(time.Second, 0) {
			t.Error("the lease has not lapsed")
		}
	})
}

// A killed keeper leaves a journal, from which the evidence is written.
func TestKilledKeeper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, 1)
		w.after(5*time.Minute, 0)
		raw, err := os.ReadFile(filepath.Join(w.run.Dir, journal.Name)) // a snapshot of the journal
		if err != nil {
			t.Fatal(err)
		}
		w.finish()
		if err := os.WriteFile(filepath.Join(w.run.Dir, journal.Name), raw[:len(raw)-3], 0o600); err != nil {
			t.Fatal(err)
		}
		var settled *Record
		for range 2 { // the second time there is nothing to do
			settled = nil
			if err := w.state.Settle(func(r *Run) error { settled = r.Record; return r.done() }); err != nil {
				t.Fatal(err)
			}
			if settled == nil {
				return
			}
			if settled.Decision != Interrupted || settled.Off || settled.Requests < 20_000 || settled.Folder != w.plan.Folder {
				t.Errorf("%+v", settled)
			}
			if found := settled.Recheck(evidence.Simulated, w.plan.Plan); len(found) > 0 {
				t.Errorf("does not hold: %q", found)
			}
		}
		t.Error("a settled run was settled again")
	})
}

// Any change to a record is detected.
func TestRecheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, 2)
		w.after(time.Minute, 0)
		r := w.finish()
		for name, change := range map[string]func(*Record){
			"a count":                   func(r *Record) { r.Processes[0].Decisions[byModel]++ },
			"a last count":              func(r *Record) { r.Processes[0].End["not_selected"]-- },
			"a first count":             func(r *Record) { r.Processes[1].Start["off"] = 1 << 40 },
			"the requests of a process": func(r *Record) { r.Processes[1].Requests++ },
			"a sum":                     func(r *Record) { r.Decisions["not_selected"]++ },
			"all requests":              func(r *Record) { r.Requests++ },
			"a source":                  func(r *Record) { r.Processes[0].SourcesEnd[evidence.Simulated]++ },
			"all sources":               func(r *Record) { delete(r.Sources, evidence.Simulated) },
			"a reason":                  func(r *Record) { r.Processes[0].End["whim"] = 0 },
			"the percentage":            func(r *Record) { r.Plan.Percent = 4 },
			"D":                         func(r *Record) { r.Plan.Quality.DisagreementCap /= 2 },
			"the budget":                func(r *Record) { r.Plan.ChangedPercent = 1 },
			"the lease":                 func(r *Record) { r.Plan.Lease /= 2 },
			"the plan":                  func(r *Record) { r.PlanFile.SHA256 = strings.Repeat("0", 64) },
			"the promotion":             func(r *Record) { r.Promotion.SHA256 = strings.Repeat("0", 64) },
			"the phrase":                func(r *Record) { r.Confirmation = strings.Replace(r.Confirmation, "5%", "1%", 1) },
			"the end":                   func(r *Record) { r.Decision = Ended },
			"whether it is off":         func(r *Record) { r.Off = !r.Off },
			"when it began":             func(r *Record) { r.StartTime = r.StartTime.Add(time.Hour) },
			"when it ended":             func(r *Record) { r.EndTime = r.EndTime.Add(-time.Second) },
		} {
			found := clone(t, r, w.plan.Plan)
			change(found)
			if len(found.Recheck(evidence.Simulated, w.plan.Plan)) == 0 {
				t.Errorf("%s was changed, and nothing is found", name)
			}
		}
		other := *w.plan.Plan
		other.WaitBudget--
		for name, found := range map[string][]string{
			"another source": r.Recheck(evidence.Live, w.plan.Plan), "no plan": r.Recheck(evidence.Simulated, nil), "another plan": r.Recheck(evidence.Simulated, &other),
		} {
			if len(found) == 0 {
				t.Errorf("%s is not found", name)
			}
		}
	})
}

func clone(t *testing.T, r *Record, p *Plan) *Record {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Record
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if found := again.Recheck(evidence.Simulated, p); len(found) > 0 {
		t.Fatalf("the record on disk does not hold: %q", found)
	}
	return &again
}
