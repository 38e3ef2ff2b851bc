package page

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestPeriods(t *testing.T) {
	for length, want := range map[time.Duration]string{
		0: "since start", time.Second: "last 1 s", 61 * time.Second: "last 61 s", 5 * time.Minute: "last 5 min", 2 * time.Hour: "last 2 h",
		47 * time.Hour: "last 47 h", 7 * 24 * time.Hour: "last 7 days",
	} {
		if got := period(length); got != want {
			t.Errorf("%v: got %q, want %q", length, got, want)
		}
	}
	now := time.Now()
	for age, want := range map[time.Duration]string{time.Minute: "since start", time.Hour: "last 10 min"} {
		if got := periodOf(&executorv1.GetShadowReportResponse{
			StartTime: timestamppb.New(now.Add(-age)), ReportTime: timestamppb.New(now),
			Window: &executorv1.ShadowWindow{Length: durationpb.New(10 * time.Minute)},
		}); got != want {
			t.Errorf("%v after the start: got %q, want %q", age, got, want)
		}
	}
	if got := periodOfDrift(&mlenginev1.GetDriftResponse{
		WindowStartTime: timestamppb.New(now.Add(-28 * 24 * time.Hour)), WindowEndTime: timestamppb.New(now),
	}); got != "last 28 days" {
		t.Errorf("drift: got %q", got)
	}
	if got := periodOfDrift(nil); got != "" {
		t.Errorf("no drift: got %q", got)
	}
}

// Every answer names its period, and the status names the machine.
func TestStatusNamesPeriodsAndHost(t *testing.T) {
	w := newWorld(t)
	d := startDrift(func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
		return w.drift(t.Context())
	})
	defer d.stop()
	s := &source{opts: Options{
		Host: "trader-7", Metrics: w.metrics, Rollout: func() *executorv1.Rollout { return w.rollout },
		Gate:    func() *executorv1.GateStatus { return nil },
		Quality: func() (*executorv1.QualityJudgment, []Bound) { return nil, nil },
		Report: func(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error) {
			return w.report, nil
		},
	}, drift: d}
	got, err := s.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Host != "trader-7" {
		t.Errorf("host: got %q", got.Host)
	}
	for i, want := range []string{"since start", "last 5 min", "last 5 min"} {
		if got.Answers[i].Period != want {
			t.Errorf("%s: got %q, want %q", got.Answers[i].Question, got.Answers[i].Period, want)
		}
	}
}

// An open breaker shows when and why it opened.
func TestAnOpenBreakerShowsWhy(t *testing.T) {
	w := newWorld(t)
	w.report.Breaker = &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_OPEN, Trip: &executorv1.BreakerTrip{
		OpenTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Reason: "error rate", Successes: 128, Failures: 12, ConsecutiveFailures: 2,
	}}
	check(t, "open", seen(w.report), "no", bad, "the breaker is open since 03:04:05 UTC: error rate, 12 of 140 predictions failed, 2 in a row; ")
}

// An invalid answer of ml-engine is an error on the page, not a figure.
func TestInvalidDriftAnswer(t *testing.T) {
	for name, change := range map[string]func(*mlenginev1.GetDriftResponse){
		"an index that is no number":    func(d *mlenginev1.GetDriftResponse) { d.Overall.Psi = math.NaN() },
		"an infinite threshold":         func(d *mlenginev1.GetDriftResponse) { d.Overall.Threshold = math.Inf(1) },
		"a negative index of a feature": func(d *mlenginev1.GetDriftResponse) { d.Features[0].Reading.Psi = -1 },
		"noise that is no number":       func(d *mlenginev1.GetDriftResponse) { n := math.NaN(); d.Features[1].Reading.NullQ99 = &n },
		"a verdict that there is not":   func(d *mlenginev1.GetDriftResponse) { d.Features[0].Reading.Verdict = 77 },
		"a time that there is not":      func(d *mlenginev1.GetDriftResponse) { d.WindowEndTime = &timestamppb.Timestamp{Seconds: 1 << 60} },
	} {
		synctest.Test(t, func(t *testing.T) {
			answer, err := newWorld(t).drift(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			change(answer)
			d := startDrift(func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
				return answer, nil
			})
			defer d.stop()
			_, _, _ = d.latest()
			synctest.Wait()
			if got, raw, err := d.latest(); err == nil || got != nil || raw != nil || strings.Contains(err.Error(), "being asked") {
				t.Errorf("%s: got %v, %v", name, got, err)
			}
		})
	}
}
