package group

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

const (
	lease = 30 * time.Second
	// drift is how much earlier a lease ends because clocks may drift.
	drift = lease / 5000
	abort = fleetv1.StopKind_STOP_KIND_ABORT
	kill  = fleetv1.StopKind_STOP_KIND_KILL
)

func TestShareNeedsRecordAndAdmission(t *testing.T) {
	d := newDesk(t)
	d.obeys(0)
	first := d.change(observe(10, lease))
	d.take(first, "")
	d.obeys(0)
	d.admit(d.admission(), "")
	d.obeys(10)
	d.after(lease - drift)
	d.obeys(10)
	d.after(drift)
	d.obeys(0)
	d.take(first, "") // it renews nothing
	d.obeys(0)
	d.take(d.renew(), "")
	d.obeys(10)
	d.take(first, Old)
	d.obeys(10)
	d.take(d.change(observe(20, lease)), "")
	d.obeys(20)
	d.take(d.change(observe(0, lease)), "")
	d.obeys(0)
	if why := d.f.Orders(d.now).Why; why != "" {
		t.Errorf("a record of 0 %% is obeyed, not refused: %q", why)
	}
}

// A late renewal is worth only the rest of its lease.
func TestRenewalThatWasHeldBack(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	d.admit(d.admission(), "")
	d.after(20 * time.Second)
	renewal := d.renew()
	d.after(20 * time.Second)
	d.obeys(0)
	d.take(renewal, "")
	d.obeys(10)
	if left := d.f.Orders(d.now).Until.Sub(d.now); left > 10*time.Second {
		t.Errorf("%v are left of a lease of 30 s that was issued 20 s ago", left)
	}
	d.after(10 * time.Second)
	d.obeys(0)
}

// A late admission shortens the lease by its delay and requests another admission, until a better one arrives.
func TestLateAdmission(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	late := d.report()
	d.after(12 * time.Second)
	e, err := d.s.Admit(late, d.now)
	d.admit(d.signed(e, err), "")
	left := func() time.Duration { return d.f.Orders(d.now).Until.Sub(d.now) }
	d.take(d.renew(), "")
	if got := left(); got > 18*time.Second || got < 17*time.Second {
		t.Errorf("%v are left, want 12 s less than the lease", got)
	}
	if d.f.Session(d.now) != "" || !d.s.Due(d.report(), d.now) {
		t.Error("the executor does not ask for a better admission")
	}
	d.admit(d.admission(), "")
	if got := left(); got < lease-time.Millisecond || got > lease {
		t.Errorf("%v are left after a better admission, want the lease", got)
	}
	if d.f.Session(d.now) != d.s.ID() || d.s.Due(d.report(), d.now) {
		t.Error("the executor asks for another admission")
	}
	// A worse one changes nothing, and neither does an older one.
	worse := d.report()
	d.after(5 * time.Second)
	e, err = d.s.Admit(worse, d.now)
	d.admit(d.signed(e, err), "")
	if got := left(); got < lease-5*time.Second-10*time.Millisecond || d.f.Session(d.now) == "" {
		t.Errorf("%v are left after a worse admission", got)
	}
	d.after(readmit)
	if !d.s.Due(d.report(), d.now) {
		t.Error("no session admits again, so leases get shorter for ever")
	}
}

func TestAdmissionsThatAreRefused(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	change := func(edit func(*fleetv1.Admission)) []byte {
		a := d.s.answer(d.report(), d.now)
		a.Revision = 1
		edit(a)
		e, err := sign(d.signer, admissionType, a)
		return d.signed(e, err)
	}
	for name, test := range map[string]struct {
		edit func(*fleetv1.Admission)
		want Reason
	}{
		"another group":    {func(a *fleetv1.Admission) { a.Group = "desk-b" }, OtherGroup},
		"another executor": {func(a *fleetv1.Admission) { a.ExecutorId = "executor-2" }, OtherGroup},
		"another process":  {func(a *fleetv1.Admission) { a.InstanceId = "" }, OtherGroup},
		"another nonce":    {func(a *fleetv1.Admission) { a.Nonce += "x" }, Old},
		"no nonce":         {func(a *fleetv1.Admission) { a.Nonce = "" }, Old},
		"no session":       {func(a *fleetv1.Admission) { a.Session = "" }, Invalid},
		"no uptime":        {func(a *fleetv1.Admission) { a.Uptime = nil }, Invalid},
		"negative uptime":  {func(a *fleetv1.Admission) { a.Uptime = durationpb.New(-1) }, Invalid},
		"giant uptime":     {func(a *fleetv1.Admission) { a.Uptime = durationpb.New(math.MaxInt64) }, Invalid},
		"no revision":      {func(a *fleetv1.Admission) { a.Revision = 0 }, Invalid},
		"giant revision":   {func(a *fleetv1.Admission) { a.Revision = MaxRevision + 1 }, Invalid},
		"old session":      {func(a *fleetv1.Admission) { a.Session = "before" }, Old},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			d.admit(change(test.edit), test.want)
			d.obeys(0)
		})
	}
	d.t = t
	old := d.admission()
	d.after(nonceLife + 1)
	d.admit(old, Old)
	d.obeys(0)
	d.admit(d.admission(), "")
	d.take(d.renew(), "")
	d.obeys(10)
}

// A process that has just started obeys no replayed message, with or without its state.
func TestRestart(t *testing.T) {
	for name, state := range map[string]func(*Follower) State{
		"with state":    (*Follower).State,
		"without state": func(*Follower) State { return State{} },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			first, admission := d.change(observe(50, lease)), d.admission()
			d.take(first, "")
			d.admit(admission, "")
			second := d.change(observe(10, lease))
			d.take(second, "")
			d.obeys(10)
			d.after(time.Second)
			d.f = d.restarted(state(d.f))
			d.admit(admission, OtherGroup)
			want := Old
			if name == "without state" {
				want = ""
			}
			d.take(first, want)
			d.obeys(0)
			d.admit(d.admission(), "") // to the second record
			d.obeys(0)
			d.take(second, "")
			d.obeys(10)
			d.after(lease - time.Second - drift)
			d.obeys(10)
			d.after(drift)
			d.obeys(0) // the lease did not begin again
		})
	}
}

func TestAnotherRecordOfTheSameRevision(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	d.admit(d.admission(), "")
	other := proto.CloneOf(d.s.Last())
	other.Percent, other.Renewal = 20, 2
	e, err := sign(d.signer, recordType, other)
	d.take(d.signed(e, err), Conflict)
	d.obeys(10)
	d.f = d.restarted(d.f.State())
	d.take(e, Conflict)
}

func TestSecondSession(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	d.admit(d.admission(), "")
	first := d.s
	d.after(time.Second)
	d.s = NewSession("desk-a", "test", d.signer, d.now)
	_, e, err := d.s.Change(observe(5, lease), first.Last().GetRevision(), d.now)
	d.take(d.signed(e, err), "")
	d.obeys(0) // until it admits
	second := d.admission()
	d.admit(second, "")
	d.obeys(5)
	// The first one has not noticed.
	e, err = first.Admit(d.report(), d.now)
	d.admit(d.signed(e, err), Old)
	d.obeys(5)
	_, e, err = first.Renew(d.now)
	d.take(d.signed(e, err), Old)
	d.obeys(5)
}

func TestStops(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	d.admit(d.admission(), "")
	at := d.s.Last().GetRevision()
	stop := func(kind fleetv1.StopKind, revision uint64, want Reason) []byte {
		t.Helper()
		e := d.stop(kind, revision)
		s, err := d.f.Stop(e, d.now)
		d.refused("stop", err, want)
		if (s != nil) != (want == "") || s != nil && s.GetKind() != kind {
			t.Errorf("got %v", s)
		}
		return e
	}
	stop(abort, at-1, "")
	d.obeys(10)
	stop(abort, at, "")
	d.obeys(0)
	stop(abort, at, Old)
	d.take(d.renew(), "")
	d.obeys(0)
	d.take(d.change(observe(20, lease)), "")
	d.obeys(20)
	killed := stop(kill, d.s.Last().GetRevision(), "")
	d.obeys(0)
	d.f = d.restarted(d.f.State())
	if _, err := d.f.Stop(killed, d.now); err == nil {
		t.Error("a kill is obeyed again after a restart")
	}
	// Another kill of the same revision kills again: a person may have cleared the first.
	stop(kill, d.s.Last().GetRevision(), "")
	d.take(d.renew(), "")
	d.admit(d.admission(), "")
	d.obeys(0)
	d.take(d.change(observe(30, lease)), "")
	d.obeys(30)
	for range MaxKills + 1 {
		stop(kill, 1, "")
	}
	if n := len(d.f.State().Kills); n != MaxKills {
		t.Errorf("%d kills are remembered, want %d", n, MaxKills)
	}
	d.obeys(30)
	if _, err := Stop(d.signer, "desk-a", "", abort, 0, "", d.now); err == nil {
		t.Error("a stop without a revision stops nothing, and is signed")
	}
}

// An abort of this executor alone applies to every record of the sessions that began before it, including records in transit. A
// session that began later is obeyed, even by a new process.
func TestHold(t *testing.T) {
	aborted := "this executor was aborted: only a run that began later is obeyed"
	// begin starts another session.
	begin := func(d *desk) { d.s = NewSession("desk-a", "test", d.signer, d.now) }
	t.Run("the same process", func(t *testing.T) {
		d := newDesk(t)
		d.take(d.change(observe(10, lease)), "")
		d.admit(d.admission(), "")
		d.obeys(10)
		d.after(time.Second)
		underWay := d.change(observe(20, lease))
		d.f.Hold(d.now)
		d.obeys(0)
		d.take(underWay, "")
		d.obeys(0)
		d.after(time.Minute)
		d.take(d.change(observe(30, lease)), "")
		d.admit(d.admission(), "")
		d.obeys(0)
		if o := d.f.Orders(d.now); o.Why != aborted {
			t.Errorf("at 0 %% because %q", o.Why)
		}
		if d.f.Session(d.now) == "" {
			t.Error("it asks for admissions, which cannot help")
		}
		d.after(time.Second)
		begin(d)
		d.take(d.change(observe(40, lease)), "")
		d.admit(d.admission(), "")
		d.obeys(40)
		if d.f.State().Aborted {
			t.Error("a restart forgets that a later session is obeyed")
		}
	})
	t.Run("a session that was not seen before", func(t *testing.T) {
		d := newDesk(t)
		d.after(time.Second)
		underWay := d.change(observe(10, lease))
		d.f.Hold(d.now)
		d.after(time.Second)
		d.take(underWay, "")
		d.admit(d.admission(), "")
		d.obeys(0)
	})
	t.Run("a restart", func(t *testing.T) {
		d := newDesk(t)
		d.f.Hold(d.now)
		d.after(time.Second)
		d.f = d.restarted(d.f.State())
		d.take(d.change(observe(10, lease)), "")
		d.admit(d.admission(), "")
		d.obeys(0)
		d.after(time.Second)
		begin(d)
		d.take(d.change(observe(20, lease)), "")
		d.admit(d.admission(), "")
		d.obeys(20)
	})
	t.Run("an answer that is not sure", func(t *testing.T) {
		d := newDesk(t)
		late := d.report()
		d.after(time.Second)
		d.f.Hold(d.now)
		d.after(100 * time.Millisecond)
		begin(d)
		d.take(d.change(observe(10, lease)), "")
		e, err := d.s.Admit(late, d.now)
		d.admit(d.signed(e, err), "")
		d.obeys(0)
		if d.f.Session(d.now) != "" || !d.s.Due(d.report(), d.now) {
			t.Error("the executor does not ask for another answer")
		}
		d.admit(d.admission(), "")
		d.obeys(10)
	})
	t.Run("a session of an operator that was suspended", func(t *testing.T) {
		d := newDesk(t)
		d.take(d.change(observe(10, lease)), "")
		d.admit(d.admission(), "")
		d.after(time.Minute)
		d.f.Hold(d.now)
		d.after(time.Hour)
		operator := d.now.Add(-time.Hour - 30*time.Second) // its uptime is 30 s, and seems to have begun after the abort
		_, e, err := d.s.Change(observe(20, lease), 0, operator)
		d.take(d.signed(e, err), "")
		e, err = d.s.Admit(d.report(), operator)
		d.admit(d.signed(e, err), "")
		d.obeys(0)
		if o := d.f.Orders(d.now); o.Why != aborted {
			t.Errorf("at 0 %% because %q", o.Why)
		}
	})
	t.Run("a reset", func(t *testing.T) {
		d := newDesk(t)
		d.take(d.change(observe(10, lease)), "")
		d.f.Hold(d.now)
		d.after(1)
		e, err := d.s.Command(&fleetv1.Admission{Reset_: true}, d.report(), d.now)
		d.admit(d.signed(e, err), "")
		d.take(d.renew(), "")
		d.admit(d.admission(), "")
		d.obeys(10)
	})
}

// The operator's machine was suspended, and its clock stood still. The next answer restores the share.
func TestSuspendedOperator(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	d.admit(d.admission(), "")
	d.obeys(10)
	const slept = time.Hour
	d.after(slept)
	d.obeys(0)
	operator := func() time.Time { return d.now.Add(-slept) }
	_, e, err := d.s.Renew(operator())
	d.take(d.signed(e, err), "")
	d.obeys(0) // it seems to be an hour old
	report := d.report()
	if !d.s.Due(report, operator()) {
		t.Fatal("the executor does not ask for an admission")
	}
	e, err = d.s.Admit(report, operator())
	d.admit(d.signed(e, err), "")
	d.obeys(10)
	if d.f.Session(d.now) == "" {
		t.Error("the executor asks for another admission")
	}
}

func TestReset(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	d.admit(d.admission(), "")
	reset := func() []byte {
		e, err := d.s.Command(&fleetv1.Admission{Reset_: true}, d.report(), d.now)
		return d.signed(e, err)
	}
	d.admit(reset(), NotIdle)
	d.obeys(10)
	if _, err := d.f.Stop(d.stop(kill, MaxRevision), d.now); err != nil {
		t.Fatal(err)
	}
	d.obeys(0)
	d.after(1)
	again := reset()
	d.admit(again, "")
	if s := d.f.State(); s.Revision != 0 || s.Held != 0 || len(s.Kills) != 1 {
		t.Errorf("after a reset: %+v, want the kill alone", s)
	}
	d.admit(again, Old)
	d.take(d.renew(), "")
	d.obeys(0)
	d.admit(d.admission(), "")
	d.obeys(10)
}

// A delayed reset does not lift an abort or a kill that came after the report it answers.
func TestResetThatWasHeldBack(t *testing.T) {
	for name, stop := range map[string]func(d *desk) error{
		"an abort of this executor": func(d *desk) error { d.f.Hold(d.now); return nil },
		"an abort of the group": func(d *desk) error {
			_, err := d.f.Stop(d.stop(abort, d.s.Last().GetRevision()), d.now)
			return err
		},
		"a kill": func(d *desk) error {
			_, err := d.f.Stop(d.stop(kill, d.s.Last().GetRevision()), d.now)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			reset := func() []byte {
				e, err := d.s.Command(&fleetv1.Admission{Reset_: true}, d.report(), d.now)
				return d.signed(e, err)
			}
			d.take(d.change(observe(10, lease)), "")
			held := reset()
			d.after(time.Second)
			d.admit(d.admission(), "")
			d.obeys(10)
			if err := stop(d); err != nil {
				t.Fatal(err)
			}
			d.after(time.Second)
			d.admit(held, Old)
			d.take(d.renew(), "")
			d.admit(d.admission(), "")
			d.obeys(0)
			d.admit(reset(), "") // its sender has seen the stop
			d.take(d.renew(), "")
			d.admit(d.admission(), "")
			d.obeys(10)
		})
	}
	t.Run("a second command for one report", func(t *testing.T) {
		d := newDesk(t)
		d.change(observe(0, lease))
		report := d.report()
		for i, c := range []*fleetv1.Admission{
			{
				Clear: []executorv1.GateLatch{executorv1.GateLatch_GATE_LATCH_KILLED}, Reason: "found",
				LastSetTimes: []*timestamppb.Timestamp{timestamppb.New(d.now)},
			},
			{Reset_: true},
		} {
			e, err := d.s.Command(c, report, d.now)
			_, err = d.f.Admission(d.signed(e, err), d.now)
			d.refused("command", err, []Reason{"", Old}[i])
		}
	})
}

// Every field out of range, signed by the right key.
func TestInvalidRecords(t *testing.T) {
	d := newDesk(t)
	d.change(observe(10, lease))
	good := d.s.Last()
	gate := &executorv1.Gate{ModelDigest: strings.Repeat("a", 64), AllSymbols: true}
	for name, test := range map[string]struct {
		edit func(*fleetv1.Record)
		want Reason
	}{
		"good": {func(*fleetv1.Record) {}, ""},
		"gated": {func(r *fleetv1.Record) {
			r.Revision++
			r.Mode, r.Gate = executorv1.RolloutMode_ROLLOUT_MODE_GATED, gate
		}, ""},
		"another group":      {func(r *fleetv1.Record) { r.Group = "desk-b" }, OtherGroup},
		"no group":           {func(r *fleetv1.Record) { r.Group = "" }, OtherGroup},
		"no revision":        {func(r *fleetv1.Record) { r.Revision = 0 }, Invalid},
		"giant revision":     {func(r *fleetv1.Record) { r.Revision = MaxRevision + 1 }, Invalid},
		"no renewal":         {func(r *fleetv1.Record) { r.Renewal = 0 }, Invalid},
		"no mode":            {func(r *fleetv1.Record) { r.Mode = 0 }, Invalid},
		"unknown mode":       {func(r *fleetv1.Record) { r.Mode = 9 }, Invalid},
		"off with percent":   {func(r *fleetv1.Record) { r.Mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF }, Invalid},
		"NaN":                {func(r *fleetv1.Record) { r.Percent = math.NaN() }, Invalid},
		"negative percent":   {func(r *fleetv1.Record) { r.Percent = -0.1 }, Invalid},
		"percent above 100":  {func(r *fleetv1.Record) { r.Percent = 100.1 }, Invalid},
		"no lease":           {func(r *fleetv1.Record) { r.Lease = nil }, Invalid},
		"short lease":        {func(r *fleetv1.Record) { r.Lease = durationpb.New(MinLease - 1) }, Invalid},
		"long lease":         {func(r *fleetv1.Record) { r.Lease = durationpb.New(MaxLease + 1) }, Invalid},
		"gate without mode":  {func(r *fleetv1.Record) { r.Gate = gate }, Invalid},
		"mode without gate":  {func(r *fleetv1.Record) { r.Mode = executorv1.RolloutMode_ROLLOUT_MODE_GATED }, Invalid},
		"long holder":        {func(r *fleetv1.Record) { r.Holder = strings.Repeat("x", maxName+1) }, Invalid},
		"long issuer":        {func(r *fleetv1.Record) { r.Issuer = strings.Repeat("x", maxName+1) }, Invalid},
		"long reason":        {func(r *fleetv1.Record) { r.Reason = strings.Repeat("x", maxReason+1) }, Invalid},
		"no session":         {func(r *fleetv1.Record) { r.Session = "" }, Invalid},
		"no uptime":          {func(r *fleetv1.Record) { r.Uptime = nil }, Invalid},
		"negative uptime":    {func(r *fleetv1.Record) { r.Uptime = durationpb.New(-1) }, Invalid},
		"overflowing uptime": {func(r *fleetv1.Record) { r.Uptime = durationpb.New(math.MaxInt64) }, Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			d.t, d.f = t, d.restarted(State{})
			r := proto.CloneOf(good)
			test.edit(r)
			e, err := sign(d.signer, recordType, r)
			d.take(d.signed(e, err), test.want)
		})
	}
	if r, e, err := d.s.Change(observe(101, lease), 0, d.now); err == nil || r != nil || e != nil || d.s.Last() != good {
		t.Errorf("a session issues 101 %%: %v", err)
	}
}

// A command is obeyed once, for a report of this process, within 30 s, and admits no process.
func TestCommands(t *testing.T) {
	d := newDesk(t)
	d.take(d.change(observe(10, lease)), "")
	seen := []*timestamppb.Timestamp{timestamppb.New(d.now)}
	found := &fleetv1.Admission{Clear: []executorv1.GateLatch{executorv1.GateLatch_GATE_LATCH_KILLED}, LastSetTimes: seen, Reason: "found"}
	report := d.report()
	command := d.signed(d.s.Command(found, report, d.now))
	d.after(time.Second)
	got, err := d.f.Admission(command, d.now)
	if err != nil || !slices.Equal(got.GetClear(), found.GetClear()) || got.GetIssuer() != "test" || !proto.Equal(got.GetLastSetTimes()[0], seen[0]) {
		t.Errorf("got %v, %v", got, err)
	}
	d.obeys(0)
	d.admit(command, Old)
	d.admit(d.signed(d.s.Command(&fleetv1.Admission{Alarm: executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM, ModelDigest: "d"}, report, d.now)), Old) // another one
	d.admit(d.signed(d.s.Admit(report, d.now)), "")
	d.obeys(10)
	late := d.signed(d.s.Command(found, d.report(), d.now))
	d.after(nonceLife + time.Second)
	d.admit(late, Old)
	other := d.report()
	other.InstanceId = "another"
	d.admit(d.signed(d.s.Command(found, other, d.now)), OtherGroup)
	forged := newDesk(t)
	d.admit(d.signed(forged.s.Command(found, d.report(), d.now)), Untrusted)

	long := strings.Repeat("x", maxReason+1)
	alarm := executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM
	for name, c := range map[string]*fleetv1.Admission{
		"two":             {Clear: found.GetClear(), LastSetTimes: seen, Reset_: true, Reason: "found"},
		"two others":      {Clear: found.GetClear(), LastSetTimes: seen, Alarm: alarm, ModelDigest: "d", Reason: "found"},
		"no reason":       {Clear: found.GetClear(), LastSetTimes: seen},
		"no time":         {Clear: found.GetClear(), Reason: "found"},
		"two times":       {Clear: found.GetClear(), LastSetTimes: append(seen, seen...), Reason: "found"},
		"no valid time":   {Clear: found.GetClear(), LastSetTimes: []*timestamppb.Timestamp{{Nanos: -1}}, Reason: "found"},
		"a time in vain":  {Reset_: true, LastSetTimes: seen},
		"a long reason":   {Clear: found.GetClear(), LastSetTimes: seen, Reason: long},
		"a latch twice":   {Clear: []executorv1.GateLatch{1, 1}, LastSetTimes: append(seen, seen...), Reason: "found"},
		"no latch":        {Clear: []executorv1.GateLatch{0}, LastSetTimes: seen, Reason: "found"},
		"unknown latch":   {Clear: []executorv1.GateLatch{9}, LastSetTimes: seen, Reason: "found"},
		"a kill":          {Alarm: executorv1.GateLatch_GATE_LATCH_KILLED, ModelDigest: "d"},
		"no model":        {Alarm: alarm},
		"a long model":    {Alarm: alarm, ModelDigest: strings.Repeat("d", digestSize+1)},
		"a model in vain": {Clear: found.GetClear(), LastSetTimes: seen, Reason: "found", ModelDigest: "d"},
	} {
		report := d.report()
		if e, err := d.s.Command(c, report, d.now); err == nil || e != nil {
			t.Errorf("%s is signed", name)
		}
		a := d.s.answer(report, d.now)
		proto.Merge(a, c)
		d.admit(d.signed(sign(d.signer, admissionType, a)), Invalid)
	}
}

// Messages signed by another key, messages of another kind and invalid envelopes are refused.
func TestForgedMessages(t *testing.T) {
	d := newDesk(t)
	record := d.change(observe(10, lease))
	admission, stop := d.admission(), d.stop(kill, 1)
	forged := newDesk(t)
	forged.f = NewFollower(d.f.m, State{}) // of the same group, process and nonces
	forgedRecord := forged.change(observe(100, lease))
	e, err := forged.s.Admit(d.report(), d.now)
	forgedAdmission := forged.signed(e, err)
	long := func() []byte { return append([]byte(`{"payloadType":"`), make([]byte, MaxEnvelope)...) }
	for name, test := range map[string]struct {
		data []byte
		want [3]Reason // as record, admission, stop
	}{
		"record":           {record, [3]Reason{"", Untrusted, Untrusted}},
		"admission":        {admission, [3]Reason{Untrusted, "", Untrusted}},
		"stop":             {stop, [3]Reason{Untrusted, Untrusted, ""}},
		"forged record":    {forgedRecord, [3]Reason{Untrusted, Untrusted, Untrusted}},
		"forged admission": {forgedAdmission, [3]Reason{Untrusted, Untrusted, Untrusted}},
		"forged stop":      {forged.stop(kill, 1), [3]Reason{Untrusted, Untrusted, Untrusted}},
		"nothing":          {nil, [3]Reason{Invalid, Invalid, Invalid}},
		"no JSON":          {[]byte("record"), [3]Reason{Invalid, Invalid, Invalid}},
		"too long":         {long(), [3]Reason{Invalid, Invalid, Invalid}},
		"garbage, signed":  {garbage(t, d.signer, recordType), [3]Reason{Invalid, Untrusted, Untrusted}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{t: t, f: NewFollower(d.f.m, State{}), now: d.now}
			d.f.nonces = append(d.f.nonces, nonce{text: nonceOf(t, admission), made: d.now}, nonce{text: nonceOf(t, forgedAdmission), made: d.now})
			d.take(test.data, test.want[0])
			d.admit(test.data, test.want[1])
			_, err := d.f.Stop(test.data, d.now)
			d.refused("stop", err, test.want[2])
			d.obeys(0)
		})
	}
}

func garbage(t *testing.T, s *dsse.Signer, payloadType string) []byte {
	t.Helper()
	e, err := s.Sign(payloadType, []byte("\xff\xff\xff"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func nonceOf(t *testing.T, admission []byte) string {
	t.Helper()
	e, err := dsse.Parse(admission)
	if err != nil {
		t.Fatal(err)
	}
	a := &fleetv1.Admission{}
	if err := proto.Unmarshal(e.Payload, a); err != nil {
		t.Fatal(err)
	}
	return a.GetNonce()
}

// The largest messages fit.
func TestLargestRecord(t *testing.T) {
	d := newDesk(t)
	terms := observe(10, lease)
	terms.Mode = executorv1.RolloutMode_ROLLOUT_MODE_GATED
	terms.Gate = &executorv1.Gate{ModelDigest: strings.Repeat("a", 64)}
	for i := range 1000 {
		terms.Gate.Symbols = append(terms.Gate.Symbols, strings.Repeat(string(rune('A'+i%26)), 64))
	}
	terms.Holder, terms.Reason = strings.Repeat("h", maxName), strings.Repeat("r", maxReason)
	d.take(d.change(terms), "")
	d.admit(d.admission(), "")
	d.obeys(10)
}

func TestNoncesAreBounded(t *testing.T) {
	d := newDesk(t)
	for range 100 {
		d.f.Nonce(d.now)
	}
	if n := len(d.f.nonces); n > maxNonces+1 {
		t.Errorf("%d nonces are remembered", n)
	}
}

func TestRevisions(t *testing.T) {
	d := newDesk(t)
	for _, test := range []struct {
		above uint64
		want  uint64
	}{
		{0, uint64(d.now.UnixMilli())}, {0, uint64(d.now.UnixMilli()) + 1}, {MaxRevision - 1, MaxRevision},
	} {
		if r, _, err := d.s.Change(observe(1, lease), test.above, d.now); err != nil || r.GetRevision() != test.want || r.GetRenewal() != 1 {
			t.Errorf("above %d: revision %d (%v), want %d", test.above, r.GetRevision(), err, test.want)
		}
	}
	if _, _, err := d.s.Change(observe(1, lease), 0, d.now); err == nil {
		t.Error("a revision above 2^53 is issued")
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"desk-a": true, "A_9": true, strings.Repeat("x", 64): true, "": false, strings.Repeat("x", 65): false,
		"a.b": false, "a b": false, "*": false, ">": false, "é": false, "a\n": false,
	} {
		if err := CheckName(name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzEnvelopes(f *testing.F) {
	d := newDesk(f)
	d.f.m.Keys = d.signer.Public()
	f.Add(d.change(observe(10, lease)))
	f.Add(d.admission())
	f.Add(d.stop(kill, 1))
	f.Add([]byte(`{"payloadType":"","payload":"","signatures":[{"sig":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		follower := NewFollower(Member{Group: "desk-a", Executor: "executor-1", Instance: "new", Keys: d.signer.Public()}, State{})
		follower.Nonce(d.now)
		_, stopErr := follower.Stop(data, d.now)
		_, admissionErr := follower.Admission(data, d.now)
		for what, err := range map[string]error{"record": follower.Record(data), "admission": admissionErr, "stop": stopErr} {
			if _, ok := IsRefused(err); err != nil && !ok {
				t.Errorf("%s: %v has no reason", what, err)
			}
		}
		if o := follower.Orders(d.now); o.Record != nil {
			t.Errorf("obeys %v", o.Record)
		}
	})
}
