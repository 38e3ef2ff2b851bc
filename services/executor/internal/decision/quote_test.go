package decision_test

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	day  = 24 * time.Hour
	warm = 1441 // minutes: with the first minute of the second day, the first day is complete and every feature defined
)

func proto(q market.Quote) *executorv1.Quote {
	return &executorv1.Quote{Time: timestamppb.New(time.UnixMilli(q.Time)), Bid: q.Bid, Ask: q.Ask}
}

// simulated is two days of quotes by minute, with the features that the batch path computes from them.
func simulated(t *testing.T) (minutes [][]market.Quote, frame *feature.Frame) {
	t.Helper()
	sim, err := market.Simulate(market.SimulateOptions{Seed: 3, Days: 2})
	if err != nil {
		t.Fatal(err)
	}
	for q := range sim.Quotes() {
		if n := len(minutes); n == 0 || q.Time/market.MinuteMS != minutes[n-1][0].Time/market.MinuteMS {
			minutes = append(minutes, nil)
		}
		minutes[len(minutes)-1] = append(minutes[len(minutes)-1], q)
	}
	frame, err = feature.Compute(sim.Series().Bars)
	if err != nil {
		t.Fatal(err)
	}
	return minutes, frame
}

// observe sends quotes in one stream, in batches of a few hundred.
func (e *executor) observe(symbol string, quotes ...*executorv1.Quote) *executorv1.ObserveQuotesResponse {
	e.t.Helper()
	stream, err := e.ObserveQuotes(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	for len(quotes) > 0 {
		n := min(500, len(quotes))
		if err := stream.Send(&executorv1.ObserveQuotesRequest{Symbol: symbol, Quotes: quotes[:n]}); err != nil {
			e.t.Fatal(err)
		}
		quotes = quotes[n:]
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		e.t.Fatal(err)
	}
	return resp
}

// observeMinutes streams whole minutes.
func (e *executor) observeMinutes(symbol string, minutes [][]market.Quote) {
	e.t.Helper()
	var quotes []*executorv1.Quote
	for _, m := range minutes {
		for _, q := range m {
			quotes = append(quotes, proto(q))
		}
	}
	if got := e.observe(symbol, quotes...); got.GetAccepted()+got.GetIgnored() != uint64(len(quotes)) || got.GetIgnored() != 0 {
		e.t.Errorf("got %v, want %d accepted", got, len(quotes))
	}
}

func notes(r *executorv1.ObserveQuotesResponse) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range r.GetNotes() {
		if c.GetCount() > 0 {
			m[strings.ToLower(strings.TrimPrefix(c.GetNote().String(), "QUOTE_NOTE_"))] = c.GetCount()
		}
	}
	return m
}

// Serving features equal training features bit for bit: quotes by stream and by request against the batch path.
func TestQuotesScoreLikeTheBatchPath(t *testing.T) {
	minutes, frame := simulated(t)
	s := schema(t, "v1.8.1")
	row := map[int64]int{}
	for i := range frame.Len() {
		row[frame.End(i)] = i
	}
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		e.observeMinutes("SIM", minutes[:warm])
		x := make([]float64, s.Len())
		for _, m := range minutes[warm : warm+300] {
			for i, q := range m {
				if i > 0 && i%2 == 0 { // some of the quotes by stream
					e.observe("SIM", proto(q))
					continue
				}
				want := q.Time - q.Time%market.MinuteMS
				if k, ok := row[want]; !ok || !frame.Row(k, s, x) {
					t.Fatalf("the batch path has no features at %d", want)
				}
				got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Symbol: "SIM", Quote: proto(q)})
				if err != nil {
					t.Fatal(err)
				}
				plain, err := e.Predict(t.Context(), &executorv1.PredictRequest{Symbol: "SIM", Quote: proto(q)}) // a duplicate now
				if err != nil {
					t.Fatal(err)
				}
				baseline, shadow := math.Float64bits(e.baselineOf(s, x)), math.Float64bits(e.engine.Model().Scorer.Score(x))
				if math.Float64bits(got.GetBaseline().GetScore()) != baseline || math.Float64bits(plain.GetScore()) != baseline ||
					math.Float64bits(got.GetShadow().GetScore()) != shadow ||
					got.GetFeatureTime().AsTime().UnixMilli() != want || plain.GetFeatureTime().AsTime().UnixMilli() != want {
					t.Fatalf("at %d: got %v and %v, want the scores %v and %v", want, got, plain,
						math.Float64frombits(baseline), math.Float64frombits(shadow))
				}
			}
		}
		synctest.Wait()
	})
}

// wantNotReady checks a refusal and returns its message.
func (e *executor) wantNotReady(symbol string, q market.Quote, features string) string {
	e.t.Helper()
	_, err := e.Predict(e.t.Context(), &executorv1.PredictRequest{Symbol: symbol, Quote: proto(q)})
	s := status.Convert(err)
	if s.Code() != codes.FailedPrecondition || len(s.Details()) != 1 {
		e.t.Fatalf("got %v, want FAILED_PRECONDITION with one detail", err)
	}
	info, ok := s.Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.GetDomain() != "executor.greenlight" || info.GetReason() != "NOT_READY" || info.GetMetadata()["features"] != features {
		e.t.Errorf("got %v, want NOT_READY with the names %q", s.Details(), features)
	}
	return s.Message()
}

func TestNotReady(t *testing.T) {
	minutes, _ := simulated(t)
	const all = "vol1m_log_rel,spread_bp_rel,rsi14_z,zscore_mid_24h"
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		for _, step := range []struct {
			until    int
			features string
			want     []string
		}{
			{0, all, []string{`symbol "SIM": not ready`, "no minute is complete"}},
			{1, all, []string{"vol1m needs 30 returns, has 0"}},
			{700, all, []string{"rsi14_z needs 720 minutes of rsi14, has ", "sigma_ref needs one completed UTC day"}},
			{800, "vol1m_log_rel,spread_bp_rel", []string{"sigma_ref needs one completed UTC day with 300 returns"}},
		} {
			e.observeMinutes("SIM", minutes[:step.until])
			// Earlier steps observed these minutes: repeated quotes are out of order.
			message := e.wantNotReady("SIM", minutes[step.until][0], step.features)
			for _, want := range step.want {
				if !strings.Contains(message, want) {
					t.Errorf("after %d minutes: got %q, want %q in it", step.until, message, want)
				}
			}
			e = start(t, enginetest.Options{}, 100)
		}
		crossed := market.Quote{Time: minutes[0][0].Time, Bid: 2, Ask: 1}
		e.wantNotReady("NEW", crossed, all)
		e.wantNotReady("NEW", crossed, all)
		if n, err := testutil.GatherAndCount(e.reg, "ml_feature_not_ready_total"); err != nil || n != 1 {
			t.Errorf("ml_feature_not_ready_total: %d series, %v", n, err)
		}
		if err := testutil.GatherAndCompare(e.reg, strings.NewReader(`
# HELP ml_feature_not_ready_total Requests with a quote for which the features of the symbol are undefined or too old. They are refused, unless the caller's own score is the baseline.
# TYPE ml_feature_not_ready_total counter
ml_feature_not_ready_total 2
`), "ml_feature_not_ready_total"); err != nil {
			t.Error(err)
		}
		if r, _ := e.report(); r.GetRequestsTotal() != 0 {
			t.Errorf("%d requests counted: a request that is refused is none", r.GetRequestsTotal())
		}
	})
}

// After a gap that is not filled there is no decision until a minute is complete. Then the baseline decides, even if a
// feature of the model under trial is still undefined.
func TestLongHole(t *testing.T) {
	minutes, _ := simulated(t)
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		e.observeMinutes("SIM", minutes[:warm+1])
		last := minutes[warm][len(minutes[warm])-1]
		at := func(minutes int64) market.Quote {
			q := last
			q.Time += minutes * market.MinuteMS
			return q
		}
		if _, err := e.Predict(t.Context(), &executorv1.PredictRequest{Symbol: "SIM", Quote: proto(at(11))}); err != nil {
			t.Errorf("after a hole of 10 minutes: %v", err)
		}
		if message := e.wantNotReady("SIM", at(30), ""); !strings.Contains(message, "more than 10 minutes before the quote") {
			t.Errorf("got %q", message)
		}
		got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Symbol: "SIM", Quote: proto(at(31))})
		if err != nil || got.GetBaseline().GetScore() <= 0 || got.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED {
			t.Errorf("got %v, %v; want the baseline, and no shadow for want of a return", got, err)
		}
		// A crossed quote is ignored. The features still serve until they are too old.
		crossed := at(41)
		crossed.Bid, crossed.Ask = 2*crossed.Ask, crossed.Bid
		if _, err := e.Predict(t.Context(), &executorv1.PredictRequest{Symbol: "SIM", Quote: proto(crossed)}); err != nil {
			t.Errorf("crossed: %v", err)
		}
		crossed.Time += market.MinuteMS
		e.wantNotReady("SIM", crossed, "")
	})
}

func TestAModelOfEitherSchemaTakesQuotes(t *testing.T) {
	minutes, frame := simulated(t)
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{Schema: "v1.8"}, 100)
		e.observeMinutes("SIM", minutes[:warm])
		older := schema(t, "v1.8")
		x := make([]float64, older.Len())
		q := minutes[warm][0]
		got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Symbol: "SIM", Quote: proto(q)})
		for i := range frame.Len() {
			if frame.End(i) == q.Time-q.Time%market.MinuteMS {
				frame.Row(i, older, x)
			}
		}
		if want := e.engine.Model().Scorer.Score(x); err != nil || got.GetShadow().GetScore() != want {
			t.Errorf("got %v, %v; want the shadow %v", got, err, want)
		}
	})
}
