package group

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// newSigner returns a new key.
func newSigner(t testing.TB) *dsse.Signer {
	t.Helper()
	s, _ := keytest.New(t)
	return s
}

// observe returns the terms of a percentage.
func observe(percent float64, lease time.Duration) *fleetv1.Record {
	r := &fleetv1.Record{Percent: percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(lease)}
	if percent == 0 {
		r.Mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF
	}
	return r
}

// desk is an operator and an executor of the group "desk-a" without a carrier between them. Both have the same clock.
type desk struct {
	t      testing.TB
	signer *dsse.Signer
	now    time.Time
	s      *Session
	f      *Follower
}

func newDesk(t testing.TB) *desk {
	d := &desk{t: t, signer: newSigner(t), now: time.Now()}
	d.s = NewSession("desk-a", "test", d.signer, d.now)
	d.f = d.restarted(State{})
	return d
}

// restarted returns a follower of a new process that continues from the state.
func (d *desk) restarted(s State) *Follower {
	f := NewFollower(Member{Group: "desk-a", Executor: "executor-1", Instance: d.now.String(), Keys: d.signer.Public()}, s)
	if s.Aborted {
		f.Hold(d.now)
	}
	return f
}

func (d *desk) after(by time.Duration) { d.now = d.now.Add(by) }

// report returns a report by the follower's process at the current time.
func (d *desk) report() *fleetv1.Report {
	return &fleetv1.Report{
		ExecutorId: d.f.m.Executor, InstanceId: d.f.m.Instance, Nonce: d.f.Nonce(d.now), Session: d.f.Session(d.now),
	}
}

// change and renew return a record of the session.
func (d *desk) change(terms *fleetv1.Record) []byte {
	d.t.Helper()
	_, e, err := d.s.Change(terms, 0, d.now)
	return d.signed(e, err)
}

func (d *desk) renew() []byte {
	d.t.Helper()
	_, e, err := d.s.Renew(d.now)
	return d.signed(e, err)
}

// admission returns an admission that answers a report made now.
func (d *desk) admission() []byte {
	d.t.Helper()
	e, err := d.s.Admit(d.report(), d.now)
	return d.signed(e, err)
}

func (d *desk) stop(kind fleetv1.StopKind, revision uint64) []byte {
	d.t.Helper()
	e, err := Stop(d.signer, "desk-a", "test", kind, revision, "", d.now)
	return d.signed(e, err)
}

func (d *desk) signed(e []byte, err error) []byte {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// take gives the follower a record, which it must accept, or refuse for the reason.
func (d *desk) take(e []byte, want Reason) {
	d.t.Helper()
	d.refused("record", d.f.Record(e), want)
}

func (d *desk) admit(e []byte, want Reason) {
	d.t.Helper()
	_, err := d.f.Admission(e, d.now)
	d.refused("admission", err, want)
}

func (d *desk) refused(what string, err error, want Reason) {
	d.t.Helper()
	if got, _ := IsRefused(err); got != want || (err != nil) != (want != "") {
		d.t.Errorf("%s: refused as %q (%v), want %q", what, got, err, want)
	}
}

// obeys fails the test unless the executor obeys that percentage.
func (d *desk) obeys(want float64) {
	d.t.Helper()
	if o := d.f.Orders(d.now); o.Percent != want || (o.Record != nil) != (want > 0) || o.Record != nil && !o.Until.After(d.now) {
		d.t.Errorf("obeys %g %% until %v (%q), want %g %%", o.Percent, o.Until.Sub(d.now), o.Why, want)
	}
}
