package decision_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// An invalid event_time fails no decision. It is passed on neither to the feature log nor to ml-engine.
func TestInvalidEventTimes(t *testing.T) {
	s := schema(t, "v1.8.1")
	synctest.Test(t, func(t *testing.T) {
		var settled []time.Time
		e := start(t, enginetest.Options{}, 0, func(s *setup) {
			s.settled = func(r shadow.Request, _ shadow.Result) { settled = append(settled, r.EventTime) }
		})
		e.service.LimitEventTimes(time.Minute)
		now := time.Now().UTC()
		ignored := 0
		for _, tt := range []struct {
			time *timestamppb.Timestamp
			want time.Time
		}{
			{timestamppb.New(now), now},
			{timestamppb.New(now.Add(time.Minute)), now.Add(time.Minute)},
			{timestamppb.New(now.AddDate(-10, 0, 0)), now.AddDate(-10, 0, 0)},
			{nil, time.Time{}},
			{timestamppb.New(now.Add(time.Minute + time.Millisecond)), time.Time{}},
			{timestamppb.New(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)), time.Time{}},
			{timestamppb.New(time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)), time.Time{}},
			{timestamppb.New(time.Time{}), time.Time{}},
			{&timestamppb.Timestamp{}, time.Time{}},
			{&timestamppb.Timestamp{Seconds: now.Unix(), Nanos: -1}, time.Time{}},
			{&timestamppb.Timestamp{Seconds: math.MaxInt64}, time.Time{}},
		} {
			settled = nil
			x := enginetest.Vector(e.rng, s)
			got, err := e.Predict(t.Context(), &executorv1.PredictRequest{EventTime: tt.time, Vector: &executorv1.FeatureVector{Schema: s.Name, Values: x}})
			if err != nil || got.GetScore() != e.baselineOf(s, x) {
				t.Errorf("%v: got %v, %v, want the baseline", tt.time, got, err)
			}
			synctest.Wait()
			if len(settled) != 1 || !settled[0].Equal(tt.want) {
				t.Errorf("%v: got %v, want %v", tt.time, settled, tt.want)
			}
			if tt.time != nil && tt.want.IsZero() {
				ignored++
			}
		}
		families, err := testutil.GatherAndCount(e.reg, "ml_event_time_ignored_total")
		if err != nil || families != 1 {
			t.Fatal(families, err)
		}
		all, err := e.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.GetName() == "ml_event_time_ignored_total" && f.GetMetric()[0].GetCounter().GetValue() != float64(ignored) {
				t.Errorf("%v are counted, want %d", f.GetMetric()[0].GetCounter().GetValue(), ignored)
			}
		}
	})
}
