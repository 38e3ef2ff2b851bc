package decision_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// watch opens a stream of comparisons, and returns it once requests are selected.
func (e *executor) watch(ctx context.Context, req *executorv1.WatchComparisonsRequest) executorv1.ShadowService_WatchComparisonsClient {
	e.t.Helper()
	stream, err := e.reports.WatchComparisons(ctx, req)
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return stream
}

// watchers returns how many watchers there are.
func (e *executor) watchers() float64 {
	e.t.Helper()
	families, err := e.reg.Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "ml_shadow_watchers" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	e.t.Fatal("ml_shadow_watchers is missing")
	return 0
}

// A watcher receives the scores that callers received, to the last bit.
func TestWatchedScoresAreThoseOfTheAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 50)
		stream := e.watch(t.Context(), &executorv1.WatchComparisonsRequest{})
		s := schema(t, "v1.8.1")
		answers := map[string]*executorv1.PredictWithShadowResponse{}
		for i := range 100 {
			id := fmt.Sprint("request-", i)
			answer, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{
				RequestId: id, Symbol: "S", Vector: &executorv1.FeatureVector{Schema: s.Name, Values: enginetest.Vector(e.rng, s)},
			})
			if err != nil {
				t.Fatal(err)
			}
			if answer.GetShadow() != nil {
				answers[id] = answer
			}
		}
		if len(answers) < 20 {
			t.Fatalf("only %d of 100 requests got a shadow", len(answers))
		}
		for n := len(answers); n > 0; n-- {
			c, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			a := answers[c.GetRequestId()]
			delete(answers, c.GetRequestId())
			for what, pair := range map[string][2]float64{
				"baseline": {c.GetBaselineScore(), a.GetBaseline().GetScore()}, "shadow": {c.GetShadowScore(), a.GetShadow().GetScore()},
				"delta": {c.GetDelta(), a.GetComparison().GetDelta()}, "latency": {c.GetLatencyMs(), a.GetShadowLatencyMs()},
			} {
				if math.Float64bits(pair[0]) != math.Float64bits(pair[1]) {
					t.Errorf("%s: %s %v, but the caller received %v", c.GetRequestId(), what, pair[0], pair[1])
				}
			}
			if a == nil || c.GetOutcome() != a.GetOutcome() || c.GetSymbol() != "S" || c.GetModelDigest() != a.GetShadow().GetModelDigest() || c.GetFeatures() != nil || c.GetDroppedTotal() != 0 {
				t.Errorf("got %v, but the caller received %v", c, a)
			}
		}
	})
}

// The buffer of a client that does not read fills up. Decisions stay as fast as before, and the comparisons that it reads later and
// those that it missed add up.
func TestAClientThatDoesNotReadLosesAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{Absent: true}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream := e.watch(ctx, &executorv1.WatchComparisonsRequest{Outcomes: []executorv1.ShadowOutcome{executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED}})
		s := schema(t, "v1.8.1")
		vector := &executorv1.FeatureVector{Schema: s.Name, Values: enginetest.Vector(e.rng, s)}
		const n = 5000
		begin := time.Now()
		for i := range n {
			if _, err := e.Predict(t.Context(), &executorv1.PredictRequest{RequestId: fmt.Sprint(i, strings.Repeat("x", 200)), Vector: vector}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the decisions waited %v", took)
		}
		synctest.Wait()
		read, lost := uint64(0), uint64(0)
		go func() { // until everything kept has been read
			time.Sleep(time.Second)
			cancel()
		}()
		for {
			c, err := stream.Recv()
			if status.Code(err) == codes.Canceled {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			read, lost = read+1, c.GetDroppedTotal()
		}
		if lost == 0 || read+lost != n {
			t.Errorf("%d read and %d lost, want %d together and some of each", read, lost, n)
		}
		synctest.Wait()
		if left := e.watchers(); left != 0 {
			t.Errorf("%v watchers remain", left)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		ctx, cancel := context.WithCancel(t.Context())
		canceled, stopped := e.watch(ctx, &executorv1.WatchComparisonsRequest{}), e.watch(t.Context(), &executorv1.WatchComparisonsRequest{})
		cancel()
		if _, err := canceled.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("after a cancel: %v", err)
		}
		synctest.Wait()
		if n := e.watchers(); n != 1 {
			t.Errorf("%v watchers, want one", n)
		}
		e.reportService.EndStreams()
		_, err := stopped.Recv()
		wantRefused(t, "open", err, codes.Unavailable, "STOPPING")
		late, err := e.reports.WatchComparisons(t.Context(), &executorv1.WatchComparisonsRequest{})
		if err == nil {
			_, err = late.Recv()
		}
		wantRefused(t, "late", err, codes.Unavailable, "STOPPING")
		synctest.Wait()
		if n := e.watchers(); n != 0 {
			t.Errorf("%v watchers remain", n)
		}
	})
}

func wantRefused(t *testing.T, name string, err error, code codes.Code, reason string) {
	t.Helper()
	got := ""
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "executor.greenlight" {
			got = info.GetReason()
		}
	}
	if status.Code(err) != code || got != reason {
		t.Errorf("%s: got %v with the reason %q, want %v with %s", name, err, got, code, reason)
	}
}

func TestWatchRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		refused := func(name string, req *executorv1.WatchComparisonsRequest, code codes.Code, reason string) {
			stream, err := e.reports.WatchComparisons(t.Context(), req)
			if err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("%s: the stream ended well", name)
			}
			wantRefused(t, name, err, code, reason)
		}
		for _, outcome := range []executorv1.ShadowOutcome{0, -1, executorv1.ShadowOutcome(shadow.NotSampled) + 1, 257} {
			refused(fmt.Sprint("outcome ", int32(outcome)), &executorv1.WatchComparisonsRequest{Outcomes: []executorv1.ShadowOutcome{1, outcome}}, codes.InvalidArgument, "OUTCOME_UNKNOWN")
		}
		for _, percent := range []float64{-0.1, 100.1, math.NaN(), math.Inf(1)} {
			refused(fmt.Sprint(percent, " %"), &executorv1.WatchComparisonsRequest{SamplePercent: percent}, codes.InvalidArgument, "SAMPLE_INVALID")
		}
		refused("symbol", &executorv1.WatchComparisonsRequest{Symbol: strings.Repeat("S", 65)}, codes.InvalidArgument, "FIELD_TOO_LONG")
		refused("features", &executorv1.WatchComparisonsRequest{IncludeFeatures: true}, codes.PermissionDenied, "OPERATOR_ONLY")
		if n := e.watchers(); n != 0 {
			t.Errorf("%v watchers remain of refused calls", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 16 {
			e.watch(ctx, &executorv1.WatchComparisonsRequest{SamplePercent: 100, Symbol: strings.Repeat("S", 64)})
		}
		refused("the 17th", &executorv1.WatchComparisonsRequest{}, codes.ResourceExhausted, "TOO_MANY_WATCHERS")
		cancel()
		synctest.Wait()
		e.watch(t.Context(), &executorv1.WatchComparisonsRequest{})
	})
}
