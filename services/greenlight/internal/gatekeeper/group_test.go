package gatekeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
)

// grouped makes a fake executor a member of a group.
type grouped struct {
	*fakeExecutor
	fleettest.NoBlocks
}

// byGroup is the author of what the record of the group sets.
const byGroup = "group:desk-a"

// Obey implements [member.Executor].
func (g grouped) Obey(r *fleetv1.Record, until time.Time, why string) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance()
	was := g.rollout
	now := &executorv1.Rollout{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: byGroup, Reason: why, Plan: was.GetPlan()}
	switch gated := r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_GATED; {
	case r == nil:
	case gated && g.forbidden:
		err = errors.New("executor was started without --allow-gated")
	case gated && (len(g.latches) > 0 || was.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY && was.GetHolder() == r.GetHolder()):
		now.Mode, now.Percent, now.Holder, now.Gate = executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, r.GetGate().GetObservePercent(), r.GetHolder(), r.GetGate()
		err = errors.New("the gate is shut") // until another run, even if the latch is cleared
	case gated && r.GetGate().GetModelDigest() != g.model.Digest:
		err = errors.New("ml-engine has another model")
	default:
		now = &executorv1.Rollout{
			Mode: r.GetMode(), Percent: r.GetPercent(), Holder: r.GetHolder(), Reason: r.GetReason(), SetBy: byGroup, Plan: r.GetPlan(), Gate: r.GetGate(),
			LeaseExpireTime: timestamppb.New(until),
		}
	}
	demoted := err != nil && was.GetGate() != nil && was.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	if !demoted && (was.GetMode() != now.GetMode() || was.GetHolder() != now.GetHolder()) && (r != nil || was.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_OFF) {
		now.Revision, now.SetTime = was.GetRevision()+1, timestamppb.Now()
		g.rollout, g.expires = now, time.Time{}
	}
	if r != nil && err == nil {
		g.expires = until
	}
	return err
}

// Kill implements [member.Executor].
func (g grouped) Kill(by, _, reason string) error {
	g.mu.Lock()
	set := len(g.latches) > 0
	g.mu.Unlock()
	if !set { // the first author stays
		g.latch(executorv1.GateLatch_GATE_LATCH_KILLED, by, reason)
	}
	return nil
}

// Command implements [member.Executor].
func (g grouped) Command(c *fleetv1.Admission) error {
	if c.GetAlarm() != 0 {
		g.latch(c.GetAlarm(), c.GetIssuer(), c.GetReason())
		return nil
	}
	_, err := g.ClearGateLatches(context.Background(), &executorv1.ClearGateLatchesRequest{Latches: c.GetClear(), LastSetTimes: c.GetLastSetTimes(), Reason: c.GetReason()})
	return err
}

// Report implements [member.Executor].
func (g grouped) Report(ctx context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	report, err := g.GetShadowReport(ctx, nil)
	rollout, unread := g.GetRollout(ctx, nil)
	return report, rollout, errors.Join(err, unread)
}

// desk is a group of fakes, with everything that its gate is started with.
type desk struct {
	*trial

	net    *grouptest.Network
	signer *dsse.Signer
	ends   []*grouptest.Carrier
	keeper *Keeper
	// processes holds the processes of the run at its start.
	processes int
	stops     []func()
	group     *fleetgroup.Group
	// carrier is the carrier of the group.
	carrier *grouptest.Carrier
}

// newDesk starts n executors, in a synctest bubble.
func newDesk(t *testing.T, n int) *desk {
	t.Helper()
	dir := t.TempDir()
	signer, _ := keytest.New(t)
	d := &desk{trial: &trial{t: t, state: State(filepath.Join(dir, "state"))}, net: grouptest.NewNetwork(1), signer: signer}
	d.plan = written(t, filepath.Join(dir, "evidence"), testPlan().Plan)
	for i := range n {
		d.join(newFake(fmt.Sprintf("executor-%d", i)))
	}
	d.carrier = d.net.Carrier()
	d.group = d.open(d.carrier)
	return d
}

// join starts an executor of the group. It is at 0 %.
func (d *desk) join(f *fakeExecutor) {
	d.t.Helper()
	f.rollout = &executorv1.Rollout{Revision: 1, SetBy: "executor", Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF}
	c := d.net.Carrier()
	m := &fleettest.Member{Executor: grouped{fakeExecutor: f}, ID: f.addr, Carrier: c, Keys: d.signer.Public()}
	d.fakes, d.ends, d.stops = append(d.fakes, f), append(d.ends, c), append(d.stops, m.Start(d.t))
}

// open opens an operator's side.
func (d *desk) open(c *grouptest.Carrier) *fleetgroup.Group {
	d.t.Helper()
	g, err := fleetgroup.Open(fleetgroup.Options{Group: "desk-a", Signer: d.signer, Carrier: c})
	if err != nil {
		d.t.Fatal(err)
	}
	if err := g.Listen(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	return g
}

// close ends everything.
func (d *desk) close() {
	for _, stop := range d.stops {
		stop()
	}
	d.group.Close()
}

// start starts the gate.
func (d *desk) start() {
	d.t.Helper()
	ticket, err := d.state.Issue(d.plan, time.Hour)
	if err != nil {
		d.t.Fatal(err)
	}
	in, err := Inspect(d.t.Context(), d.group.Executors(), d.plan.Plan)
	if err == nil {
		err = in.claim(d.t.Context(), Target{Group: d.group}, time.Duration(d.plan.Lease))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	if d.run, err = d.state.Begin(d.plan, ticket); err != nil {
		d.t.Fatal(err)
	}
	d.run.Record.Processes = make([]Process, d.processes)
	ctx, cancel := context.WithCancel(d.t.Context())
	d.stop, d.done, d.keeper = cancel, make(chan struct{}), NewKeeper(d.run, in, nil)
	go func() {
		defer close(d.done)
		d.ended = errors.Join(d.keeper.Run(ctx), d.run.Close())
		in.hold.publisher.Close()
	}()
}

// deciding lists the executors at which the model may decide.
func (d *desk) deciding(after time.Duration) (open []bool) {
	time.Sleep(after)
	synctest.Wait()
	for _, f := range d.fakes {
		f.change(func() { open = append(open, f.open()) })
	}
	return open
}

func (d *desk) want(after time.Duration, want ...bool) {
	d.t.Helper()
	if got := d.deciding(after); !slices.Equal(got, want) {
		d.t.Errorf("the model may decide: %v, want %v", got, want)
	}
}

// happened fails the test unless the record has these events, in this order.
func happened(t *testing.T, r *Record, want ...string) {
	t.Helper()
	i := 0
	for _, kind := range kinds(r) {
		if i < len(want) && kind == want[i] {
			i++
		}
	}
	if i < len(want) {
		t.Errorf("%q has not happened after %q: %q", want[i], want[:i], kinds(r))
	}
}

// Executors come, go, restart and refuse. The gate of the others stays open. When it is stopped, the record of the group says 0 %.
func TestGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 3)
		defer d.close()
		d.start()
		d.want(8*time.Second, true, true, true)
		d.want(time.Hour, true, true, true)
		forbidden, latched := newFake("forbidden"), newFake("latched")
		forbidden.forbidden = true
		latched.latches = []*executorv1.GateLatchState{{Latch: executorv1.GateLatch_GATE_LATCH_KILLED, SetBy: "file", SetTime: timestamppb.Now()}}
		d.join(newFake("late"))
		d.join(forbidden)
		d.join(latched)
		d.want(time.Minute, true, true, true, true, false, false)
		d.fakes[0].change(func() {
			d.fakes[0].process++
			d.fakes[0].decisions = map[executorv1.FallbackReason]uint64{}
		})
		d.stops[1]()
		d.stops[1] = func() {}
		latched.change(func() { latched.latches = nil })
		d.want(2*time.Minute, true, false, true, true, false, false)
		r := d.finish()
		happened(t, r, "started", "opened executor-0", "opened executor-2", "opened late", "not_renewed forbidden", "restarted executor-0", "stopping", "off executor-0", "finished")
		happened(t, r, "not_renewed latched", "stopping")
		happened(t, r, "not_renewed executor-1", "stopping")
		if r.Decision != Stopped || r.Group != "desk-a" || !r.Off || len(r.Processes) != 7 {
			t.Errorf("%s of group %q, off %v, %d processes", r.Decision, r.Group, r.Off, len(r.Processes))
		}
		for _, e := range r.Events {
			if e.Kind == NotRenewed && e.Executor == "forbidden" && !strings.Contains(e.Reason, "--allow-gated") {
				t.Errorf("the reason is %q", e.Reason)
			}
		}
		d.want(0, false, false, false, false, false, false)
		if got, _, _ := d.carrier.Record(t.Context()); !bytes.Contains(mustOpen(t, d, got), []byte("greenlight gate start ends: ")) {
			t.Error("the record of the group does not say 0 %")
		}
	})
}

// mustOpen returns the reason of a record that says 0 %.
func mustOpen(t *testing.T, d *desk, envelope []byte) []byte {
	t.Helper()
	r, err := group.OpenRecord(d.signer.Public(), envelope, "desk-a")
	if err != nil {
		t.Fatal(err)
	}
	if r.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_OFF {
		t.Errorf("the record is %v", r)
	}
	return []byte(r.GetReason())
}

// A latch or an abort at one executor, a stop of the group, and another controller each end the gate of all.
func TestGroupEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(d *desk, other *fleetgroup.Group)
		kind    Kind
		reason  string
	}{
		"alarm": {func(d *desk, other *fleetgroup.Group) {
			req := &executorv1.RaiseGateAlarmRequest{Alarm: executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM, ModelDigest: testModel.Digest, Reason: "worse"}
			if _, err := other.Executors()[1].Rollouts.RaiseGateAlarm(d.t.Context(), req); err != nil {
				d.t.Error(err)
			}
		}, Demoted, "executor executor-1: quality_alarm by " + fleetgroup.Issuer() + ": worse"},
		"kill file": {func(d *desk, _ *fleetgroup.Group) {
			d.fakes[1].latch(executorv1.GateLatch_GATE_LATCH_KILLED, "file", "gate.kill exists")
		}, Demoted, "executor executor-1: killed by file: gate.kill exists"},
		"abort of one": {func(d *desk, _ *fleetgroup.Group) {
			d.fakes[1].change(func() {
				d.fakes[1].rollout = &executorv1.Rollout{Revision: 99, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: "token:ops", Reason: "stop"}
			})
		}, Taken, "executor executor-1: its rollout was set to 0 %, OFF, by token:ops: \"stop\""},
		"stop": {func(d *desk, other *fleetgroup.Group) {
			if err := other.StopNow(d.t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
				d.t.Error(err)
			}
			for _, done := range Stop(d.t.Context(), other.Executors(), other, false, "enough") {
				if done.Err != nil {
					d.t.Error(done.Err)
				}
			}
		}, Taken, "group desk-a: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, 3)
				defer d.close()
				other := d.open(d.net.Carrier())
				defer other.Close()
				d.start()
				d.want(time.Minute, true, true, true)
				test.happens(d, other)
				d.want(8*time.Second, false, false, false)
				r := d.finish()
				if r.Decision != Ended || !strings.HasPrefix(r.Reason, test.reason) || !r.Off {
					t.Errorf("%s: %q, off %v; want %q", r.Decision, r.Reason, r.Off, test.reason)
				}
				if !slices.ContainsFunc(r.Events, func(e Event) bool { return e.Kind == test.kind }) {
					t.Errorf("events %q", kinds(r))
				}
				stored, _, _ := d.carrier.Record(t.Context())
				mustOpen(t, d, stored)
			})
		})
	}
}

// A stop ends the record of a hung controller, even if an executor is never read back.
func TestGroupStopUnconfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 2)
		defer d.close()
		other := d.open(d.net.Carrier())
		defer other.Close()
		d.start()
		d.want(time.Minute, true, true)
		d.carrier.Hang()
		d.ends[1].Cut()
		if err := other.StopNow(t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		done := Stop(ctx, other.Executors(), other, false, "enough")
		if len(done) != 3 || done[0].Err != nil || done[1].Err == nil || done[2].Err != nil {
			t.Errorf("got %v", done)
		}
		stored, _, _ := d.net.Carrier().Record(t.Context())
		if got := mustOpen(t, d, stored); string(got) != "enough" {
			t.Errorf("the record ends with %q", got)
		}
		d.carrier.Heal()
		d.finish()
	})
}

// A stop of the group ends a run at its next reading, even under a long lease.
func TestGroupStopEndsALongLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		defer d.close()
		p := testPlan().Plan
		p.Lease = gate.Duration(time.Hour)
		d.plan = written(t, filepath.Join(t.TempDir(), "evidence"), p)
		other := d.open(d.net.Carrier())
		defer other.Close()
		d.start()
		d.want(11*time.Second, true)
		if err := other.StopNow(t.Context(), fleetv1.StopKind_STOP_KIND_ABORT, "enough"); err != nil {
			t.Fatal(err)
		}
		stopped := time.Now()
		<-d.done
		if took := time.Since(stopped); took > 15*time.Second {
			t.Errorf("it went on for %v", took)
		}
	})
}

// An executor whose reports are dropped right after its admission may decide, and is not recorded as off.
func TestGroupSilentAfterAdmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		defer d.close()
		d.start()
		late, silent := newFake("late"), false
		late.network = func(ctx context.Context, method string) (err error) {
			late.change(func() {
				if silent = silent || late.open(); silent {
					err = cutOff(ctx, method)
				}
			})
			return err
		}
		d.join(late)
		d.want(22*time.Second, true, true)
		if r := d.finish(); r.Off {
			t.Errorf("it is written down as off: %q", kinds(r))
		}
	})
}

// An executor that was never open and is gone is forgotten, and admitted again when it returns. A run with too many processes
// ends.
func TestGroupIsBounded(t *testing.T) {
	t.Parallel()
	for _, returns := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, 1)
			defer d.close()
			d.start()
			passing := newFake("passing")
			passing.forbidden = true
			d.join(passing)
			d.want(30*time.Second, true, false)
			passing.change(func() { passing.network = cutOff })
			d.want(110*time.Second, true, false)
			want := 1
			if returns {
				passing.change(func() { passing.network = nil })
				d.want(10*time.Second, true, false)
				want = 2
			}
			if d.finish(); len(d.keeper.members) != want {
				t.Errorf("%d members, want %d", len(d.keeper.members), want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 2)
		defer d.close()
		d.processes = maxProcesses
		d.start()
		<-d.done
		if r := d.run.Record; r.Decision != Ended || !strings.Contains(r.Reason, "20002 processes have reported") {
			t.Errorf("%s: %s", r.Decision, r.Reason)
		}
	})
}

// An executor counts as off only if a report received after the end began shows that no model decides.
func TestGroupMemberEnds(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(-time.Second)
	off := &executorv1.Rollout{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF}
	gated := &executorv1.Rollout{Mode: executorv1.RolloutMode_ROLLOUT_MODE_GATED, Percent: 5, SetBy: byGroup, Holder: "another"}
	p := testPlan().Plan // a lease of 30 s
	for name, test := range map[string]struct {
		rollout  *executorv1.Rollout
		at       time.Time
		err      error
		absent   bool
		reported time.Duration // before now
		want     Kind
	}{
		"off":                     {rollout: off, at: time.Now(), want: Off},
		"an earlier report":       {rollout: off, at: began.Add(-time.Second), want: NotOff},
		"under another record":    {rollout: gated, at: time.Now(), want: NotOff},
		"a contradiction":         {rollout: off, at: time.Now(), err: errors.New("two processes"), want: NotOff},
		"absent, and never open":  {absent: true, reported: 20 * time.Second, want: NotOff},
		"gone for more than 60 s": {absent: true, reported: 61 * time.Second, want: ""},
	} {
		m := &member{plan: p, reported: time.Now().Add(-test.reported)}
		of := fleetgroup.Member{At: test.at, Err: test.err, Report: &fleetv1.Report{Rollout: &executorv1.GetRolloutResponse{Rollout: test.rollout}}}
		if got, why := m.end(of, !test.absent, began); got != test.want || (why != "") != (got == NotOff) {
			t.Errorf("%s: %q, %q; want %q", name, got, why, test.want)
		}
	}
}

// A kill that arrives while a gate waits for the record of a hung controller prevents the gate.
func TestKillWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		defer d.close()
		other := d.open(d.net.Carrier())
		defer other.Close()
		d.start()
		d.want(time.Minute, true)
		d.carrier.Hang()
		time.AfterFunc(5*time.Second, func() {
			if _, err := other.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_KILL, "enough"); err != nil {
				t.Error(err)
			}
		})
		if err := (&Inspection{}).claim(t.Context(), Target{Group: other}, time.Minute); !errors.Is(err, errLatched) {
			t.Errorf("got %v", err)
		}
		if p, err := other.Publish(t.Context(), fleetgroup.Claim{Lease: time.Minute}); err != nil {
			t.Errorf("the claim has left a publisher: %v", err)
		} else {
			p.Close()
		}
		d.carrier.Heal()
		d.finish()
	})
}

// While the keeper is cut off, no model decides after the lease. Then the gate continues.
func TestGroupPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 2)
		defer d.close()
		d.start()
		d.want(time.Minute, true, true)
		cut := time.Now()
		d.carrier.Cut()
		d.want(time.Minute, false, false)
		for _, f := range d.fakes {
			f.change(func() {
				if late := f.gatedUntil.Sub(cut); late > 30*time.Second {
					t.Errorf("the model decided for %s after the partition, the lease is 30s", late)
				}
			})
		}
		d.carrier.Heal()
		d.want(20*time.Second, true, true)
		d.ends[1].Cut() // and one executor at the end
		d.deciding(20 * time.Second)
		r := d.finish()
		happened(t, r, "opened executor-0", "not_renewed group desk-a", "renewed group desk-a", "off executor-0", "not_off executor-1")
		if r.Decision != Stopped || r.Off {
			t.Errorf("%s, off %v", r.Decision, r.Off)
		}
		d.want(time.Minute, false, false)
	})
}

// Clearing a kill of the group clears it at all executors, and then removes the stored kill. A kill stored since then stays.
func TestGroupKillAndClear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 2)
		defer d.close()
		other := d.open(d.net.Carrier())
		defer other.Close()
		d.start()
		d.want(time.Minute, true, true)
		if err := other.StopNow(t.Context(), fleetv1.StopKind_STOP_KIND_KILL, "enough"); err != nil {
			t.Fatal(err)
		}
		d.want(8*time.Second, false, false)
		if r := d.finish(); r.Decision != Ended {
			t.Errorf("%s: %s", r.Decision, r.Reason)
		}
		clearing := func() *Clearing {
			t.Helper()
			c, err := NewClearing(t.Context(), other.Executors(), other, []string{killed}, "fixed")
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		cleared := func(c *Clearing, before func()) string {
			t.Helper()
			ticket, err := d.state.AskClear(c, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			before()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			done, err := d.state.Clear(ctx, other.Executors(), other, c, ticket.Phrase)
			var out bytes.Buffer
			return fmt.Sprint(errors.Join(err, Lines(&out, done))) + out.String()
		}
		d.fakes[1].change(func() { d.fakes[1].network = cutOff }) // it no longer reports
		if got := cleared(clearing(), func() {}); strings.Count(got, "cleared; left: none") != 1 || !strings.Contains(got, "executor-1 FAILED: ") || strings.Contains(got, "group ") {
			t.Errorf("with one that fails: %s", got)
		}
		d.fakes[1].change(func() { d.fakes[1].network = nil })
		time.Sleep(group.Presence)
		if _, err := Inspect(t.Context(), other.Executors(), d.plan.Plan); !errors.Is(err, errLatched) {
			t.Errorf("before it is cleared: %v", err)
		}
		got := cleared(clearing(), func() {
			if _, err := other.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_KILL, "once more"); err != nil {
				t.Error(err)
			}
			time.Sleep(group.ReportPeriod)
		})
		if !strings.Contains(got, `group     desk-a FAILED: group desk-a stores another kill`) || !strings.Contains(got, "once more") {
			t.Errorf("another kill: %s", got)
		}
		if kill, err := other.StoredKill(t.Context()); err != nil || kill.GetReason() != "once more" {
			t.Errorf("stored: %v, %v", kill, err)
		}
		in, err := Inspect(t.Context(), nil, d.plan.Plan)
		if err == nil {
			err = in.claim(t.Context(), Target{Group: other}, time.Minute)
		}
		if !errors.Is(err, errLatched) || !strings.Contains(err.Error(), "once more") {
			t.Errorf("a stored kill: %v", err)
		}
		if got := cleared(clearing(), func() {}); !strings.Contains(got, "group     desk-a no longer stores a kill") {
			t.Errorf("in the end: %s", got)
		}
		d.start()
		d.want(10*time.Second, true, true)
		other2, err := Inspect(t.Context(), nil, d.plan.Plan)
		if err == nil {
			err = other2.claim(t.Context(), Target{Group: other}, time.Minute)
		}
		if !errors.Is(err, errHeld) || Hint(err) == "" {
			t.Errorf("while it is held: %v", err)
		}
		if r := d.finish(); r.Decision != Stopped || !r.Off {
			t.Errorf("%s: %s", r.Decision, r.Reason)
		}
		if found := d.run.Record.Recheck(evidence.Simulated, d.plan.Plan); len(found) > 0 {
			t.Error(found)
		}
	})
}
