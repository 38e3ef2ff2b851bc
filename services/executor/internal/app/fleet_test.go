package app_test

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

// inFleet returns the options of an executor in a group, and the key of its operator.
func inFleet(t *testing.T, engine *enginetest.Engine, url string) (*app.Options, *dsse.Signer) {
	t.Helper()
	signer, key := keytest.New(t)
	o := options(t, engine)
	o.Control.Insecure, o.StateDir, o.SamplePercent = true, t.TempDir(), 0
	o.Fleet = app.Fleet{URL: url, Group: "desk-a", Trust: key + ".pub"}
	return o, signer
}

func TestFleetOptions(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*app.Options)
		want   string
	}{
		"no servers":      {func(o *app.Options) { o.Fleet.URL = "" }, "need --fleet"},
		"no group":        {func(o *app.Options) { o.Fleet.Group = "" }, "--fleet-group"},
		"no keys":         {func(o *app.Options) { o.Fleet.Trust = "" }, "--fleet-trust"},
		"no folder":       {func(o *app.Options) { o.StateDir = "" }, "--state-dir"},
		"a percentage":    {func(o *app.Options) { o.SamplePercent = 1 }, "--sample-percent"},
		"another scheme":  {func(o *app.Options) { o.Fleet.URL = "http://a" }, "nats://"},
		"no such creds":   {func(o *app.Options) { o.Fleet.Creds = filepath.Join(t.TempDir(), "none") }, "none"},
		"a strange group": {func(o *app.Options) { o.Fleet.Group = "desk.a" }, "desk.a"},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := inFleet(t, loopback(t), "nats://127.0.0.1:4222")
			test.change(o)
			if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// desk is the operator of a group with one executor.
type desk struct {
	t       *testing.T
	carrier *natsgroup.Carrier
	session *group.Session
	// reports has the newest report.
	reports chan *fleetv1.Report
	version uint64
}

// operate makes the test the operator, until it ends.
func operate(t *testing.T, url string, signer *dsse.Signer) *desk {
	t.Helper()
	c, err := natsgroup.Open(natsgroup.Options{URL: url, Group: "desk-a", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, carrier: c, session: group.NewSession("desk-a", "test", signer, time.Now()), reports: make(chan *fleetv1.Report)}
	ctx, cancel := context.WithCancel(t.Context())
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for ctx.Err() == nil {
			_ = c.Reports(ctx, func(raw []byte) {
				report := &fleetv1.Report{}
				if err := proto.Unmarshal(raw, report); err != nil {
					t.Error(err)
				}
				select {
				case d.reports <- report:
				case <-ctx.Done():
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		hearing.Wait()
		c.Close()
	})
	return d
}

// change publishes a record with the terms.
func (d *desk) change(terms *fleetv1.Record) {
	d.t.Helper()
	_, e, err := d.session.Change(terms, 0, time.Now())
	if err == nil {
		d.version, err = d.carrier.Put(d.t.Context(), e, d.version)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// reported answers reports until one matches.
func (d *desk) reported(want func(*fleetv1.Report) bool) *fleetv1.Report {
	d.t.Helper()
	for {
		report := <-d.reports
		if want(report) {
			return report
		}
		if d.session.Last() == nil {
			continue
		}
		a, err := d.session.Admit(report, time.Now())
		d.admit(report, a, err)
	}
}

// admit sends an admission, or a command, to the process of a report.
func (d *desk) admit(report *fleetv1.Report, envelope []byte, err error) {
	d.t.Helper()
	if err == nil {
		err = d.carrier.Admit(d.t.Context(), report.GetExecutorId(), envelope)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// at matches a report of an executor that obeys the newest record with the percentage.
func (d *desk) at(percent float64) func(*fleetv1.Report) bool {
	return func(r *fleetv1.Report) bool {
		return r.GetRollout().GetRollout().GetPercent() == percent && r.GetRevision() == d.session.Last().GetRevision()
	}
}

// The whole program follows the record of its group over NATS, and keeps working without NATS.
func TestFleetOfRunningExecutor(t *testing.T) {
	nats := natstest.Start(t, 1)
	o, signer := inFleet(t, loopback(t), nats.URL)
	r := start(t, o)
	r.reached()
	d := operate(t, nats.URL, signer)
	terms := &fleetv1.Record{Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(time.Hour), Holder: "run-1"}
	first := <-d.reports
	if first.GetTrouble() == "" || first.GetShadow().GetSamplePercent() != 0 || first.GetShadow().GetInstanceId() != first.GetInstanceId() || first.GetRollout().GetRollout() == nil {
		t.Errorf("the first report is %v", first)
	}
	change := func(percent float64) {
		t.Helper()
		terms.Percent = percent
		d.change(terms)
	}
	reported := func(percent float64) *fleetv1.Report { return d.reported(d.at(percent)) }
	change(100)
	if report := reported(100); report.GetTrouble() != "" || report.GetSession() == "" || report.GetExecutorId() == "" {
		t.Errorf("the report is %v", report)
	}
	decisions, rollouts := executorv1.NewDecisionServiceClient(r.Conn), executorv1.NewRolloutServiceClient(r.Conn)
	decide := func() *executorv1.PredictWithShadowResponse {
		t.Helper()
		resp, err := decisions.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: vector()})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if decide().GetShadow() == nil {
		t.Error("at 100 % a decision has no shadow")
	}
	if _, err := rollouts.SetRollout(t.Context(), observe(50)); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "desk-a") {
		t.Errorf("a direct change: %v", err)
	}
	if _, page := r.Get("/metrics"); !strings.Contains(page, "\nml_fleet_connected{group=\"desk-a\"} 1\n") || !strings.Contains(page, "\nml_fleet_refused_total{reason=\"conflict\"} 0\n") {
		t.Errorf("the metrics do not have the fleet:\n%s", page)
	}
	nats.Kill(0) // the lease stays in force, and decisions continue
	if decide().GetShadow() == nil {
		t.Error("a decision without NATS has no shadow")
	}
	if _, err := rollouts.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if decide().GetShadow() != nil {
		t.Error("a decision after an abort has a shadow")
	}
	if code, body := r.Get("/readyz"); code != 200 || !strings.Contains(body, "group desk-a") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	nats.Restart(0)
	report := reported(0) // the record no longer counts, though NATS has it
	if !strings.Contains(report.GetTrouble(), "aborted") {
		t.Errorf("the trouble is %q", report.GetTrouble())
	}
	d.session = group.NewSession("desk-a", "test", signer, time.Now()) // another run
	change(99)
	reported(99)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

// With the gate of a group, the model decides in the whole program. An alarm and its clearing come as commands, which cannot be
// replayed; a kill after the one that a person has seen stays.
func TestGateOfAGroup(t *testing.T) {
	nats, engine := natstest.Start(t, 1), loopback(t)
	o, signer := inFleet(t, engine, nats.URL)
	o.AllowGated = true
	r := start(t, o)
	r.reached()
	d := operate(t, nats.URL, signer)
	model := engine.Model()
	req := gateOf(model.Digest())
	terms := &fleetv1.Record{
		Mode: req.GetMode(), Percent: req.GetPercent(), Lease: req.GetLease(), Plan: req.GetPlan(), Gate: req.GetGate(), Holder: "gate-1",
	}
	decisions := executorv1.NewDecisionServiceClient(r.Conn)
	calm := &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}}
	decides := func(by executorv1.Decider, reason executorv1.FallbackReason) {
		t.Helper()
		got, err := decisions.Predict(t.Context(), &executorv1.PredictRequest{Vector: calm})
		if err != nil || got.GetGate().GetDecidedBy() != by || got.GetGate().GetFallbackReason() != reason {
			t.Errorf("got %v, %v; want %v, %v", got, err, by, reason)
		}
		if by == executorv1.Decider_DECIDER_MODEL && got.GetScore() != model.Scorer.Score(calm.GetValues()) {
			t.Errorf("the score %v is not the model's", got.GetScore())
		}
	}
	latches := func(want ...string) func(*fleetv1.Report) bool {
		return func(r *fleetv1.Report) bool {
			var got []string
			for _, l := range r.GetRollout().GetGate().GetLatches() {
				got = append(got, l.GetLatch().String()+" "+l.GetSetBy()+" "+l.GetReason())
			}
			return slices.Equal(got, want)
		}
	}
	open := func(r *fleetv1.Report) bool { return r.GetRollout().GetGate().GetOpen() }
	d.change(terms)
	d.reported(open)
	decides(executorv1.Decider_DECIDER_MODEL, 0)

	report := <-d.reports
	alarm := &fleetv1.Admission{Alarm: executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM, ModelDigest: model.Digest(), Reason: "worse"}
	alarmed, err := d.session.Command(alarm, report, time.Now())
	d.admit(report, alarmed, err)
	const quality = "GATE_LATCH_QUALITY_ALARM group:desk-a test worse"
	alarming := d.reported(latches(quality))
	decides(executorv1.Decider_DECIDER_BASELINE, executorv1.FallbackReason_FALLBACK_REASON_QUALITY_ALARM)

	// A person clears it. Replayed commands change nothing.
	found := func(report *fleetv1.Report, which ...executorv1.GateLatch) []byte {
		t.Helper()
		c := &fleetv1.Admission{Clear: which, Reason: "late labels"}
		for _, l := range report.GetRollout().GetGate().GetLatches() {
			c.LastSetTimes = append(c.LastSetTimes, cmp.Or(l.GetLastSetTime(), l.GetSetTime()))
		}
		e, err := d.session.Command(c, report, time.Now())
		d.admit(report, e, err)
		return e
	}
	cleared := found(alarming, executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM)
	d.reported(latches())
	d.admit(report, alarmed, nil)
	d.admit(report, cleared, nil)

	// A person looks at the gate, then it is killed again: the new kill stays until the person has seen it.
	kill := func(reason string) {
		t.Helper()
		e, err := group.Stop(signer, "desk-a", "test", fleetv1.StopKind_STOP_KIND_KILL, d.session.Last().GetRevision(), reason, time.Now())
		if err == nil {
			err = d.carrier.Stop(t.Context(), fleetv1.StopKind_STOP_KIND_KILL, e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const killed = "GATE_LATCH_KILLED group:desk-a fire"
	kill("fire")
	before := d.reported(latches(killed))
	kill("and water")
	d.reported(func(r *fleetv1.Report) bool { return r.GetRollout().GetGate().GetLatches()[0].GetLastSetTime() != nil })
	found(before, executorv1.GateLatch_GATE_LATCH_KILLED)
	seen := d.reported(func(r *fleetv1.Report) bool { return strings.Contains(r.GetTrouble(), "set again meanwhile") })
	if !latches(killed)(seen) {
		t.Errorf("the latches are %v", seen.GetRollout().GetGate().GetLatches())
	}
	decides(executorv1.Decider_DECIDER_UNSPECIFIED, 0) // the kill has ended the record of the gate
	found(seen, executorv1.GateLatch_GATE_LATCH_KILLED)
	d.reported(latches())                                              // the stored kill is obeyed once
	d.session = group.NewSession("desk-a", "test", signer, time.Now()) // the next gate start
	d.change(terms)
	d.reported(open)
	decides(executorv1.Decider_DECIDER_MODEL, 0)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}
