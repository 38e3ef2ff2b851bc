package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup/fleettest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

const (
	qualityAlarm = executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM
	driftAlarm   = executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM
)

// noGates stands for executors without gates.
func noGates(context.Context, []Alarm) []Raised { return nil }

// gated is an executor with a gate that is set for a model. It is not safe for concurrent use.
type gated struct {
	executorv1.UnimplementedShadowServiceServer
	executorv1.UnimplementedRolloutServiceServer

	model         string // empty without a gate
	status        executorv1.GateStatus
	read, refused error
	silent        bool // confirms alarms without raising them
	calls         int
}

func (g *gated) GetRollout(context.Context, *executorv1.GetRolloutRequest) (*executorv1.GetRolloutResponse, error) {
	r := &executorv1.Rollout{Revision: 7, Mode: executorv1.RolloutMode_ROLLOUT_MODE_GATED, Percent: 5, SetTime: timestamppb.Now()}
	if g.model != "" {
		r.Gate = &executorv1.Gate{ModelDigest: g.model}
	}
	return &executorv1.GetRolloutResponse{Rollout: r, InstanceId: "i", Gate: &g.status}, g.read
}

func (g *gated) RaiseGateAlarm(_ context.Context, req *executorv1.RaiseGateAlarmRequest) (*executorv1.RaiseGateAlarmResponse, error) {
	g.calls++
	if g.refused != nil || req.GetModelDigest() != g.model || len(req.GetReason()) > 512 {
		return nil, errors.Join(g.refused, status.Error(codes.FailedPrecondition, "refused"))
	}
	if !g.silent {
		g.status.Latches = append(g.status.Latches, &executorv1.GateLatchState{Latch: req.GetAlarm(), SetBy: "token:agent", Reason: req.GetReason(), SetTime: timestamppb.Now()})
	}
	return &executorv1.RaiseGateAlarmResponse{Gate: &g.status, InstanceId: "i"}, nil
}

// An alarm goes only to executors whose gate is set for its model and that do not have it yet. Failures are returned. An
// answer that does not confirm the latch is a failure.
func TestRaise(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("worse ", 200)
	for name, test := range map[string]struct {
		executor *gated
		calls    int
		err      string // of each alarm; "none" means no error
		unasked  bool
	}{
		"gated":         {&gated{model: model}, 2, "", false},
		"another model": {&gated{model: baseline}, 0, "none", false},
		"no gate":       {&gated{}, 0, "none", false},
		"has both": {&gated{model: model, status: executorv1.GateStatus{Latches: []*executorv1.GateLatchState{
			{Latch: qualityAlarm, SetTime: timestamppb.Now()}, {Latch: driftAlarm, SetTime: timestamppb.Now()},
		}}}, 0, "none", false},
		"refuses":          {&gated{model: model, refused: status.Error(codes.Internal, "disk full")}, 2, "refused", false},
		"does not confirm": {&gated{model: model, silent: true}, 2, "the answer does not confirm it", false},
		"away":             {&gated{model: model, read: status.Error(codes.Unavailable, "gone")}, 0, "gone", false},
		"needs a token":    {&gated{model: model, read: status.Error(codes.Unauthenticated, "no token")}, 0, "no token", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Services{Dial: dial, Timeout: time.Minute, Executors: []string{served(t, test.executor)}}
			done := s.Raise(t.Context(), []Alarm{{qualityAlarm, model, long}, {driftAlarm, model, "drifted"}})
			if test.executor.calls != test.calls || len(done) != 2 && test.err != "none" || len(done) != 0 && test.err == "none" {
				t.Fatalf("%d calls, got %+v", test.executor.calls, done)
			}
			for _, r := range done {
				if (r.Err == nil) != (test.err == "") || r.Err != nil && !strings.Contains(r.Err.Error(), test.err) || r.Unasked != test.unasked || r.Addr != s.Executors[0] {
					t.Errorf("got %+v, want %q", r, test.err)
				}
			}
			if test.err == "" && !(latched(&test.executor.status, qualityAlarm) && latched(&test.executor.status, driftAlarm)) {
				t.Errorf("the executor has %v", test.executor.status.GetLatches())
			}
		})
	}
}

// Alarms are raised at every sample while they are active. An alarm that could not be raised is in the sample and in the
// metric, and is an error of the tick. When the drift ends, its alarm ends; a sample without an index does not end it.
func TestAlarmsAreRaisedUntilTheyHold(t *testing.T) {
	t.Parallel()
	worse := &report.Quality{Model: model, Baseline: baseline, Watch: &report.Watch{Since: at(0, 0), Alarm: outcome.Alarm{Raised: true}}}
	worse.Verdict = outcome.Pass
	var log bytes.Buffer
	var index *report.Drift
	var quality *report.Quality
	var asked []Alarm
	var answer error
	a, err := New(Options{
		State: t.TempDir(), Evidence: t.TempDir(), Source: evidence.Simulated, CriticalHours: 24,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Read: func(_ context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
			s := report.Sample{Time: now, Executors: []report.Counters{}, Drift: index, Quality: quality}
			if index == nil {
				return s, nil
			}
			return s, &driftfleet.Report{Model: evidence.Model{Version: "v1", Digest: model}}
		},
		Raise: func(_ context.Context, alarms []Alarm) (done []Raised) {
			asked = alarms
			for _, alarm := range alarms {
				done = append(done, Raised{Alarm: alarm, Addr: "e1", Err: answer})
			}
			return done
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	tick := func(hour int, wantErr bool, want ...executorv1.GateLatch) {
		t.Helper()
		asked = nil
		if err := a.Tick(t.Context(), at(0, hour)); (err != nil) != wantErr {
			t.Errorf("hour %d: %v", hour, err)
		}
		var got []executorv1.GateLatch
		for _, alarm := range asked {
			got = append(got, alarm.Latch)
			if alarm.Model != model || alarm.Reason == "" {
				t.Errorf("hour %d: %+v", hour, alarm)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("hour %d: raised %v, want %v", hour, got, want)
		}
		pending := 0
		if answer != nil {
			pending = len(want)
		}
		if n := testutil.ToFloat64(a.Metrics.pending); n != float64(pending) {
			t.Errorf("hour %d: %v alarms are pending, want %d", hour, n, pending)
		}
	}
	psi := func(psi float64, v gate.Verdict) *report.Drift {
		return &report.Drift{PSI: psi, Rows: 10_000, Days: 7, Verdict: v}
	}
	tick(0, false)
	index = psi(0.25, gate.Fail) // a warning, not critical
	tick(1, false)
	index = psi(0.4, gate.Inconclusive)
	tick(2, false)
	index = psi(0.4, gate.Fail)
	tick(3, false, driftAlarm)
	answer = errors.New("unreachable")
	index, quality = nil, worse
	tick(4, true, qualityAlarm, driftAlarm)
	quality = nil // the records cannot be read
	tick(5, true, qualityAlarm, driftAlarm)
	answer, index = nil, psi(0.1, gate.Pass)
	tick(6, false, qualityAlarm)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	samples, err := report.ReadJournal(a.State, at(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	s := report.Summarize(report.Day(at(0, 0)), samples)
	if len(s.Missing) != 1 || s.Missing[0].Service != report.GateAlarm || s.Missing[0].Address != "e1" || s.Missing[0].Samples != 4 ||
		!strings.Contains(s.Missing[0].Reason, "could not be raised: unreachable") {
		t.Errorf("the day has %+v", s.Missing)
	}
	if n := strings.Count(log.String(), "the gate of an executor was shut"); n != 2 {
		t.Errorf("the log has %d shut gates, want 2:\n%s", n, log.String())
	}
}

// If the agent may not ask whether there is a gate, which is fine for a fleet without gates, the report has the alarm and the
// tick does not fail.
func TestAlarmWithoutAToken(t *testing.T) {
	t.Parallel()
	a := &Agent{
		Options: Options{Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)},
		drifted: &Alarm{driftAlarm, model, "drifted"},
	}
	a.Raise = func(_ context.Context, alarms []Alarm) []Raised {
		return []Raised{{Alarm: alarms[0], Addr: "e1", Err: status.Error(codes.Unauthenticated, "no token"), Unasked: true}}
	}
	var sample report.Sample
	if err := a.raise(t.Context(), &sample); err != nil || len(sample.Missing) != 1 || testutil.ToFloat64(a.Metrics.pending) != 1 {
		t.Errorf("got %v, %+v", err, sample.Missing)
	}
}

// The decisions of a day are the sum over the executors, even across a restart, and are left out if no gate was set.
func TestWhoDecidedOnADay(t *testing.T) {
	t.Parallel()
	counters := func(name, instance string, start time.Time, d fleet.Decisions) report.Counters {
		c := report.Counters{Executor: name, Instance: instance, Start: start, Decisions: d, Edges: []float64{10}, Latency: []uint64{0, 0}}
		for _, n := range d {
			c.Requests += n
		}
		return c
	}
	began := at(-1, 12)
	sample := func(now time.Time, c ...report.Counters) report.Sample {
		return report.Sample{Time: now, Source: evidence.Simulated, Executors: c}
	}
	day := func(samples ...report.Sample) report.Summary { return report.Summarize(report.Day(at(0, 0)), samples) }
	off := fleet.Decisions{"off": 1000}
	s := day(
		sample(at(0, 0), counters("a", "1", began, off), counters("b", "1", began, off)),
		sample(at(0, 10), counters("a", "1", began, fleet.Decisions{"off": 1000, "model": 40, "not_selected": 60}), counters("b", "1", began, fleet.Decisions{"off": 1100})),
		sample(at(0, 20), counters("a", "2", at(0, 15), fleet.Decisions{"model": 5, "deadline": 1}), counters("b", "1", began, fleet.Decisions{"off": 1100, "killed": 7})),
	)
	if want := "model 45, baseline 168 (off 100, killed 7, not_selected 60, deadline 1)"; s.Decisions.String() != want {
		t.Errorf("got %q, want %q", s.Decisions, want)
	}
	w := report.Weekly{Summary: s}
	if text := string(w.Markdown(evidence.Simulated)); !strings.Contains(text, "Who decided: model 45, baseline 168 (") {
		t.Errorf("the week lacks who decided:\n%s", text)
	}
	if s := day(sample(at(0, 0), counters("a", "1", began, off)), sample(at(0, 10), counters("a", "1", began, fleet.Decisions{"off": 3000}))); s.Decisions != nil {
		t.Errorf("without a gate: %v", s.Decisions)
	}
}

// An alarm reaches the executors of a group that have a gate for the model, and needs the key of the operator.
func TestRaiseInAGroup(t *testing.T) {
	signer, _ := keytest.New(t)
	synctest.Test(t, func(t *testing.T) {
		net := grouptest.NewNetwork(1)
		gated := &fleettest.Counter{Gate: &executorv1.Gate{ModelDigest: fleettest.Model}}
		for id, e := range map[string]*fleettest.Counter{"gated": gated, "other": {}} {
			m := &fleettest.Member{Executor: e, ID: id, Carrier: net.Carrier(), Keys: signer.Public()}
			t.Cleanup(m.Start(t))
		}
		g, err := fleetgroup.Open(fleetgroup.Options{Group: "desk-a", Carrier: net.Carrier()})
		if err == nil {
			t.Cleanup(g.Close)
			err = g.Listen(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		s := Services{Group: g, Timeout: time.Second}
		alarms := []Alarm{{qualityAlarm, fleettest.Model, "worse"}, {driftAlarm, fleettest.Model, "drifted"}}
		if done := s.Raise(t.Context(), alarms[:1]); len(done) != 1 || done[0].Err == nil || !strings.Contains(done[0].Err.Error(), "--fleet-key") || done[0].Unasked {
			t.Errorf("without a key: %+v", done)
		}
		g.Signer = signer
		if done := s.Raise(t.Context(), alarms); len(done) != 2 || done[0].Err != nil || done[1].Err != nil || done[0].Addr != "gated" {
			t.Errorf("raised %+v", done)
		}
		if done := s.Raise(t.Context(), alarms); len(done) != 0 {
			t.Errorf("raised again: %+v", done)
		}
	})
}
