package agent

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

var (
	model    = strings.Repeat("a", 64)
	baseline = strings.Repeat("b", 64)
)

// keeper is an executor that only has records.
type keeper struct {
	executorv1.UnimplementedShadowServiceServer

	id      string
	records []outcome.Record
}

// GetQualityReport implements ShadowServiceServer.
func (k *keeper) GetQualityReport(_ context.Context, req *executorv1.GetQualityReportRequest) (*executorv1.GetQualityReportResponse, error) {
	if req.GetModelDigest() == "" {
		req.ModelDigest, req.BaselineDigest, req.PlanDigest = model, baseline, outcometest.Plan().Digest()
	}
	return outcometest.Page(req, k.id, wire.Plan(outcometest.Plan()), k.records), nil
}

// older is an executor of a version without a verdict on quality.
type older struct {
	executorv1.UnimplementedShadowServiceServer
}

// served starts a server, and returns its address.
func served(t *testing.T, s executorv1.ShadowServiceServer) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	executorv1.RegisterShadowServiceServer(server, s)
	if r, is := s.(executorv1.RolloutServiceServer); is {
		executorv1.RegisterRolloutServiceServer(server, r)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// The verdict is judged from the records of all executors, the watch from those since the promotion of this model.
func TestQualityOfAFleet(t *testing.T) {
	t.Parallel()
	plan := outcometest.Plan()
	now := time.Date(2026, 6, 10, 0, 0, 0, 0, time.UTC)
	promoted := now.Add(-3 * 24 * time.Hour)
	records := func(executor string, end time.Time, blocks int, distance float64) []outcome.Record {
		return outcometest.Records(plan, outcome.Key{Executor: executor, Model: model, Baseline: baseline}, end, blocks, outcometest.Toward(distance))
	}
	before := &keeper{id: "x", records: records("x", promoted, 120, 0.049)}
	for name, test := range map[string]struct {
		executors []executorv1.ShadowServiceServer
		promoted  string // the digest of the model
		verdict   outcome.Verdict
		watch     bool
		raised    bool
		err       string
	}{
		"not promoted":        {[]executorv1.ShadowServiceServer{before}, "", outcome.Better, false, false, ""},
		"another is promoted": {[]executorv1.ShadowServiceServer{before}, baseline, outcome.Better, false, false, ""},
		"as good since":       {[]executorv1.ShadowServiceServer{before, &keeper{id: "y", records: records("y", now, 270, 0)}}, model, outcome.Better, true, false, ""},
		// A verdict is about the past: the earlier claim stays.
		"worse since":         {[]executorv1.ShadowServiceServer{before, &keeper{id: "y", records: records("y", now, 270, -0.049)}}, model, outcome.Better, true, true, ""},
		"worse before":        {[]executorv1.ShadowServiceServer{&keeper{id: "x", records: records("x", promoted, 270, -0.049)}}, model, outcome.Fail, true, false, ""},
		"no executor has one": {[]executorv1.ShadowServiceServer{&older{}}, model, "", false, false, ""},
		"one id twice":        {[]executorv1.ShadowServiceServer{before, before}, model, "", false, false, "two executors have the id x"},
		"one is older":        {[]executorv1.ShadowServiceServer{before, &older{}}, model, "", false, false, "GetQualityReport not implemented"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if test.promoted != "" {
				store, err := evidence.Open(folder, evidence.Options{})
				if err == nil {
					err = store.WriteJSON(promote.PromotionName, evidence.Header{Schema: promote.PromotionSchema, Source: evidence.Live}, promote.Record{Digest: test.promoted, Time: promoted})
				}
				if err == nil {
					err = store.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			s := Services{Dial: dial, Timeout: time.Minute, Evidence: folder}
			for _, e := range test.executors {
				s.Executors = append(s.Executors, served(t, e))
			}
			q, err := s.quality(t.Context(), now)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) || q != nil {
					t.Errorf("got %+v, %v, want %q", q, err, test.err)
				}
			case err != nil:
				t.Error(err)
			case test.verdict == "":
				if q != nil {
					t.Errorf("got %+v, want none", q)
				}
			case q.Verdict != test.verdict || (q.Watch != nil) != test.watch || q.Alarmed() != test.raised:
				t.Errorf("got %s, watch %+v, want %s, %v, %v", q.Verdict, q.Watch, test.verdict, test.watch, test.raised)
			case strings.Contains(q.Line(), "ALARM") != test.raised || strings.Contains(q.Line(), "no alarm") != (test.watch && !test.raised):
				t.Errorf("the line is %q", q.Line())
			}
		})
	}
}

// The reports have the last verdict of their period. An alarm is logged once. It survives a restart of the agent, and stays
// when its records are too old to be kept.
func TestAlarmStays(t *testing.T) {
	t.Parallel()
	state, folder := t.TempDir(), t.TempDir()
	plan := outcometest.Plan()
	now := at(0, 0)
	sum := &fleet.Quality{Model: model, Baseline: baseline, Plan: plan, Records: outcometest.Records(plan, outcome.Key{
		Executor: "x", Model: model, Baseline: baseline,
	}, now, 300, outcometest.Toward(-0.049))}
	alarmed, err := report.QualityOf(sum, now, now.Add(-4*24*time.Hour))
	if err != nil || !alarmed.Alarmed() {
		t.Fatalf("%+v, %v: the records must raise the alarm", alarmed, err)
	}
	forgotten := *alarmed
	forgotten.Watch = &report.Watch{Since: alarmed.Watch.Since, Alarm: outcome.Alarm{Statistic: 3, Threshold: alarmed.Watch.Threshold}}
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	var live *report.Quality
	open := func() *Agent {
		a, err := New(Options{
			State: state, Evidence: folder, Source: evidence.Simulated, CriticalHours: 24, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Metrics: NewMetrics(registry),
			Raise:   noGates, Read: func(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
				s, drift := readPair(ctx, now)
				if live != nil {
					q := *live
					q.Time = now
					s.Quality = &q
				}
				return s, drift
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	alarm := func() float64 { return testutil.ToFloat64(a.Metrics.alarm) }
	tick := func(hours int) {
		t.Helper()
		if err := a.Tick(t.Context(), at(0, hours)); err != nil {
			t.Fatal(err)
		}
	}
	tick(0)
	bound := func(side string) float64 { return testutil.ToFloat64(a.Metrics.bound.WithLabelValues(side)) }
	if alarm() != 0 || !math.IsNaN(bound("lower")) || !math.IsNaN(bound("upper")) || !math.IsNaN(testutil.ToFloat64(a.Metrics.daysNeeded)) {
		t.Error("an alarm or bounds without a verdict")
	}
	live = alarmed
	tick(1)
	tick(2)
	if n := strings.Count(log.String(), "the promoted model has become worse"); n != 1 || alarm() != 1 || testutil.ToFloat64(a.Metrics.verdict.WithLabelValues("FAIL")) != 1 {
		t.Errorf("the alarm was logged %d times, metric %v:\n%s", n, alarm(), log.String())
	}
	if bound("lower") != alarmed.Lower || bound("upper") != alarmed.Upper || !(alarmed.Upper < -0.01) {
		t.Errorf("bounds %v and %v, want %v and %v", bound("lower"), bound("upper"), alarmed.Lower, alarmed.Upper)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	registry = prometheus.NewRegistry()
	a = open()
	live = &forgotten
	for h := 3; h <= 24; h++ {
		tick(h)
	}
	if n := strings.Count(log.String(), "the promoted model has become worse"); n != 1 || alarm() != 1 {
		t.Errorf("after a restart: the alarm was logged %d times, metric %v", n, alarm())
	}
	s := readSummary(t, folder, "daily/report_2026-06-01.json")
	if !s.Quality.Alarmed() || s.Quality.Verdict != outcome.Fail || math.Abs(s.Quality.Watch.Statistic-alarmed.Watch.Statistic) > 1e-9*alarmed.Watch.Statistic {
		t.Errorf("the day has %+v", s.Quality)
	}
	if !strings.Contains(log.String(), `msg="live quality" day=2026-06-01 verdict="FAIL (worse), difference`) {
		t.Errorf("the line of the day is missing:\n%s", log.String())
	}
	w := report.Weekly{Summary: s.Summary}
	if text := string(w.Markdown(evidence.Simulated)); !strings.Contains(text, "| live quality | PASS or BETTER |") || !strings.Contains(text, "roll back (greenlight rollback)") {
		t.Errorf("the week has no row of the quality:\n%s", text)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
