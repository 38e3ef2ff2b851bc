package decision_test

import (
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

// A quote that is ignored is counted by its note, and changes no feature.
func TestIgnoredQuotes(t *testing.T) {
	minutes, _ := simulated(t)
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		e.observeMinutes("CLEAN", minutes[:warm])
		e.observeMinutes("DIRTY", minutes[:warm])
		last := minutes[warm-1][len(minutes[warm-1])-1]
		at := func(after time.Duration, bid, ask float64) *executorv1.Quote {
			return &executorv1.Quote{Time: timestamppb.New(time.UnixMilli(last.Time).Add(after)), Bid: bid, Ask: ask}
		}
		got := e.observe("DIRTY",
			at(0, last.Bid, last.Ask), at(0, last.Bid, last.Ask),
			at(-time.Hour, 1, 2),
			at(0, 2, 1), at(0, 3, 1), at(0, 4, 1),
			at(0, 0, 1), at(0, 1, -1), at(0, math.NaN(), 1), at(0, 1, math.Inf(1)), at(0, 1, 0),
			&executorv1.Quote{Bid: 1, Ask: 2}, at(-200*365*day, 1, 2),
			at(31*day, 1, 2),
		)
		want := map[string]uint64{"duplicate": 2, "out_of_order": 1, "crossed": 3, "bad_price": 5, "bad_time": 2, "jump": 1}
		if !maps.Equal(notes(got), want) || got.GetAccepted() != 0 || got.GetIgnored() != 14 {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := len(got.GetNotes()); n != len(executorv1.QuoteNote_name)-1 {
			t.Errorf("%d notes are listed, want all %d", n, len(executorv1.QuoteNote_name)-1)
		}
		var scores []float64
		for _, symbol := range []string{"CLEAN", "DIRTY"} {
			r, err := e.Predict(t.Context(), &executorv1.PredictRequest{Symbol: symbol, Quote: proto(minutes[warm][0])})
			if err != nil {
				t.Fatal(err)
			}
			scores = append(scores, r.GetScore())
		}
		if math.Float64bits(scores[0]) != math.Float64bits(scores[1]) {
			t.Errorf("the quotes that were left out changed the score: %v", scores)
		}
	})
}

func TestCrossedQuotesCanBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100, func(s *setup) {
			s.book = newBook(t, feature.BuildersOptions{Live: feature.LiveOptions{KeepCrossed: true}})
		})
		got := e.observe("S", proto(market.Quote{Time: 1_736_121_600_000, Bid: 2, Ask: 1}))
		if !maps.Equal(notes(got), map[string]uint64{"crossed_kept": 1}) || got.GetAccepted() != 1 || got.GetIgnored() != 0 {
			t.Errorf("got %v", got)
		}
	})
}

// Notes of the features and of the contract correspond one to one.
func TestNotesOfTheContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 0)
		seen := map[executorv1.QuoteNote]bool{}
		for _, c := range e.observe("S").GetNotes() {
			if seen[c.GetNote()] || c.GetNote() == executorv1.QuoteNote_QUOTE_NOTE_UNSPECIFIED {
				t.Errorf("%v is listed twice, or is none", c.GetNote())
			}
			seen[c.GetNote()] = true
		}
		if len(seen) != len(feature.Notes())+1 || len(seen) != len(executorv1.QuoteNote_name)-1 {
			t.Errorf("got %v", seen)
		}
	})
}

func TestTooManySymbols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100, func(s *setup) { s.book = newBook(t, feature.BuildersOptions{MaxSymbols: 1}) })
		q := market.Quote{Time: 1_736_121_600_000, Bid: 1, Ask: 2}
		e.wantNotReady("FIRST", q, "vol1m_log_rel,spread_bp_rel,rsi14_z,zscore_mid_24h")
		_, err := e.Predict(t.Context(), &executorv1.PredictRequest{Symbol: "SECOND", Quote: proto(q)})
		wantReason(t, err, codes.ResourceExhausted, "TOO_MANY_SYMBOLS")

		// The other symbols of the stream are still observed.
		stream, err := e.ObserveQuotes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, symbol := range []string{"SECOND", "FIRST", "THIRD"} {
			q.Time++
			if err := stream.Send(&executorv1.ObserveQuotesRequest{Symbol: symbol, Quotes: []*executorv1.Quote{proto(q)}}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := stream.CloseAndRecv()
		if err != nil || !maps.Equal(notes(got), map[string]uint64{"accepted": 1, "too_many_symbols": 2}) || got.GetIgnored() != 2 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func wantReason(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code || len(s.Details()) != 1 || s.Details()[0].(*errdetails.ErrorInfo).GetReason() != reason {
		t.Errorf("got %v %v, want %v with %s", err, s.Details(), code, reason)
	}
}

func TestBadBatchesEndTheStream(t *testing.T) {
	for name, tt := range map[string]struct{ symbol, reason string }{
		"no symbol":   {"", "SYMBOL_MISSING"},
		"long symbol": {string(make([]byte, 65)), "FIELD_TOO_LONG"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := start(t, enginetest.Options{}, 100)
				stream, err := e.ObserveQuotes(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.Send(&executorv1.ObserveQuotesRequest{Symbol: tt.symbol}); err != nil {
					t.Fatal(err)
				}
				_, err = stream.CloseAndRecv()
				wantReason(t, err, codes.InvalidArgument, tt.reason)
			})
		})
	}
}

// A stop does not wait for streams, and observed quotes are kept.
func TestStreamsEndWithTheService(t *testing.T) {
	minutes, _ := simulated(t)
	book := emptyBook(t)
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100, func(s *setup) { s.book = book })
		stream, err := e.ObserveQuotes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&executorv1.ObserveQuotesRequest{Symbol: "S", Quotes: []*executorv1.Quote{proto(minutes[0][0])}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begin := time.Now()
		e.service.EndStreams()
		_, err = stream.CloseAndRecv()
		wantReason(t, err, codes.Unavailable, "STOPPING")
		if took := time.Since(begin); took != 0 || book.Count(feature.Accepted) != 1 {
			t.Errorf("ended after %v with %d quotes", took, book.Count(feature.Accepted))
		}
		if stream, err = e.ObserveQuotes(t.Context()); err == nil {
			_, err = stream.CloseAndRecv()
		}
		if err == nil {
			t.Error("a stream began after the end")
		}
	})
}

var _ executorv1.DecisionServiceServer = (*decision.Service)(nil)
