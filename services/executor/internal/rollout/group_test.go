package rollout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// record returns a record of the group.
func record(revision uint64, percent float64) *fleetv1.Record {
	return &fleetv1.Record{Revision: revision, Percent: percent, Mode: observe, Lease: durationpb.New(time.Minute), Holder: "run-1", Reason: "why"}
}

// gatedRecord returns the gate of gateRequest as a record.
func gatedRecord(revision uint64) *fleetv1.Record {
	req := gateRequest()
	return &fleetv1.Record{Revision: revision, Percent: req.GetPercent(), Mode: gated, Lease: req.GetLease(), Plan: req.GetPlan(), Gate: req.GetGate(), Holder: req.GetHolder()}
}

// follow obeys a record until then, as if from the group.
func follow(k *Keeper, r *fleetv1.Record, until time.Duration) error {
	return k.Obey(r, time.Now().Add(until), "why")
}

func wants(t *testing.T, k *Keeper, mode executorv1.RolloutMode, percent float64) *executorv1.Rollout {
	t.Helper()
	r := k.Report()
	if r.GetMode() != mode || r.GetPercent() != percent || k.Sampled("x", time.Now()) != (k.Percent() == 100) && k.Percent() != 80 {
		t.Errorf("got %v, want %v with %g %%", r, mode, percent)
	}
	return r
}

func TestObey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, _ := open(t, Options{Salt: "salt", Dir: dir, Group: "desk-a"})
		wants(t, k, off, 0)
		_, err := NewService(k).SetRollout(t.Context(), &executorv1.SetRolloutRequest{Percent: 100, Mode: observe})
		if got := refusal(t, err); got != "FailedPrecondition FLEET" || !strings.Contains(err.Error(), "desk-a") {
			t.Errorf("a direct change: %s (%v)", got, err)
		}
		obey := func(r *fleetv1.Record, until time.Duration) {
			t.Helper()
			if err := follow(k, r, until); err != nil {
				t.Error(err)
			}
		}
		obey(record(7, 100), time.Minute)
		first := wants(t, k, observe, 100)
		if first.GetSetBy() != "group:desk-a" || first.GetHolder() != "run-1" || first.GetReason() != "why" {
			t.Errorf("got %v", first)
		}
		time.Sleep(2 * writePeriod)
		synctest.Wait()
		path := filepath.Join(dir, fileName)
		before := stamp(t, path)
		for range 50 { // renewals
			time.Sleep(30 * time.Second)
			obey(record(7, 100), time.Minute)
		}
		if again := wants(t, k, observe, 100); again.GetRevision() != first.GetRevision() || !again.GetSetTime().AsTime().Equal(first.GetSetTime().AsTime()) {
			t.Errorf("renewals have made %v of %v", again, first)
		}
		if after := stamp(t, path); after != before {
			t.Errorf("renewals are written: %s, before %s", after, before)
		}
		obey(record(7, 100), time.Second) // an earlier bound of the same lease
		time.Sleep(30 * time.Second)
		wants(t, k, observe, 100)
		time.Sleep(30 * time.Second)
		wants(t, k, off, 0) // the lease has lapsed
		obey(record(7, 100), time.Minute)
		obey(record(8, 100), 10*time.Second) // another record replaces the lease
		time.Sleep(10 * time.Second)
		wants(t, k, off, 0)
		obey(record(9, 100), time.Minute)
		obey(nil, 0)
		if r := wants(t, k, off, 0); r.GetReason() != "why" || r.GetHolder() != "" {
			t.Errorf("got %v", r)
		}
		if err := follow(k, record(10, 101), time.Minute); err == nil {
			t.Error("101 % are obeyed")
		}
		wants(t, k, off, 0)
		bad := record(10, 10)
		bad.Plan = &executorv1.QualityPlan{}
		obey(record(9, 100), time.Minute)
		if err := follow(k, bad, time.Minute); err == nil {
			t.Error("a plan without values is obeyed")
		}
		wants(t, k, off, 0)
	})
}

// stamp identifies what is in a file.
func stamp(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(info.ModTime(), string(raw))
}

// Whatever the file contains, an executor that is in a group, or leaves one, starts at 0 %.
func TestStartInAGroup(t *testing.T) {
	for name, set := range map[string]func(k *Keeper) error{
		"permanent": func(k *Keeper) error { _, err := k.set(change{percent: 100, mode: observe}); return err },
		"lease":     func(k *Keeper) error { _, err := k.set(canary(100, time.Hour)); return err },
		"group": func(k *Keeper) error {
			k.opts.Group = "desk-a"
			return follow(k, record(7, 100), time.Hour)
		},
	} {
		dir := t.TempDir()
		k, _ := open(t, Options{Dir: dir})
		if err := set(k); err != nil {
			t.Fatal(err)
		}
		before := wants(t, k, observe, 100)
		k.Stop()
		k, _ = open(t, Options{Dir: dir, Group: "desk-a"})
		if now := wants(t, k, off, 0); now.GetRevision() <= before.GetRevision() || now.GetAwaitingRenewal() {
			t.Errorf("%s: got %v", name, now)
		}
		k.Stop()
		k, _ = open(t, Options{Dir: dir, Percent: 100})
		wants(t, k, off, 0)
		k.Stop()
	}
}

func TestAbortHoldsTheRecord(t *testing.T) {
	k, _ := open(t, Options{Group: "desk-a"})
	held, kept := 0, 0
	k.OnAbort(func() {
		held++
		wants(t, k, off, 0)                                          // at once: the call may wait
		if err := follow(k, record(7, 100), time.Hour); err != nil { // a renewal comes before the record is held
			t.Error(err)
		}
		wants(t, k, observe, 100)
	}, func(time.Duration) error { kept++; return errors.New("the disk is full") })
	if err := follow(k, record(7, 100), time.Hour); err != nil {
		t.Fatal(err)
	}
	_, err := NewService(k).AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{Reason: "stop"})
	if got := refusal(t, err); got != "Internal STATE_NOT_WRITTEN" || held != 1 || kept != 1 {
		t.Errorf("got %s, held %d times, kept %d times", got, held, kept)
	}
	wants(t, k, off, 0)
}

// While the record is renewed, a demoted gate keeps its shadows, and stays shut until a higher revision.
func TestDemotedGateOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, g, active := gatedKeeper(t, dir, true)
		k.opts.Group = "desk-a"
		kills := 0
		g.OnKill(func() { kills++ })
		obey := func(revision uint64, want string) {
			t.Helper()
			err := follow(k, gatedRecord(revision), time.Minute)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		active.Digest = strings.Repeat("cd", 32)
		obey(7, "ml-engine has the model")
		wants(t, k, off, 0)
		active.Digest = digest
		obey(7, "")
		wants(t, k, gated, 10)
		active.Digest = strings.Repeat("cd", 32)
		obey(7, "") // a renewal while ml-engine has another model, which then decides nothing
		active.Digest = digest
		if err := g.Kill("me", "", "why"); err != nil {
			t.Fatal(err)
		}
		demoted := wants(t, k, observe, 80)
		if kills != 1 {
			t.Errorf("%d kills, want 1", kills)
		}
		for range 3 {
			time.Sleep(50 * time.Second)
			obey(7, "the gate is shut: killed by me")
			if again := wants(t, k, observe, 80); again.GetReason() != demoted.GetReason() {
				t.Errorf("got %v", again)
			}
		}
		if err := g.Clear([]executorv1.GateLatch{executorv1.GateLatch_GATE_LATCH_KILLED}, "me", "", "found"); err != nil {
			t.Fatal(err)
		}
		obey(7, "the gate was demoted")
		wants(t, k, observe, 80)
		time.Sleep(time.Minute)
		wants(t, k, off, 0) // shadows end with the lease as well
		obey(7, "the gate was demoted")
		wants(t, k, observe, 80)
		k.Stop()
		again, _ := open(t, Options{Dir: dir, Gate: g, Group: "desk-a"})
		k = again
		wants(t, k, off, 0)
		obey(7, "the gate was demoted")
		wants(t, k, observe, 80)
		if err := g.Kill("me", "", "again"); err != nil {
			t.Fatal(err)
		}
		obey(8, "the gate is shut") // the latch was set before the record, which is therefore demoted from the start
		first := wants(t, k, observe, 80)
		obey(8, "the gate is shut")
		if renewed := wants(t, k, observe, 80); renewed.GetRevision() != first.GetRevision() {
			t.Errorf("a renewal has made %v of %v", renewed, first)
		}
		if err := g.Clear([]executorv1.GateLatch{executorv1.GateLatch_GATE_LATCH_KILLED}, "me", "", "found"); err != nil {
			t.Fatal(err)
		}
		obey(8, "the gate was demoted")
		wants(t, k, observe, 80)
		obey(9, "")
		wants(t, k, gated, 10)
		// A latch set while the lease has lapsed demotes the record too.
		time.Sleep(time.Minute)
		wants(t, k, off, 0)
		alarm := executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM
		if err := g.Alarm(alarm, digest, "agent", "", "worse"); err != nil {
			t.Fatal(err)
		}
		obey(9, "the gate is shut")
		if err := g.Clear([]executorv1.GateLatch{alarm}, "me", "", "found"); err != nil {
			t.Fatal(err)
		}
		obey(9, "the gate was demoted")
		wants(t, k, observe, 80)
		k.Stop()
	})
}

// Until the timer of a lease has fired, readers compute the next rollout without a lock.
func TestLapseWithoutALock(t *testing.T) {
	k, _ := open(t, Options{})
	must(t, k, canary(100, time.Minute))
	before := k.Report()
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.current(time.Now().Add(time.Minute)); r.Percent != 0 || r.Mode != off || r.Revision != before.GetRevision()+1 {
		t.Errorf("after the lease: %+v", r)
	}
}
