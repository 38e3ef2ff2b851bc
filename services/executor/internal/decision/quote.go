package decision

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// maxAgeMS is the largest age of features relative to the minute of the quote. It is the longest gap that is filled with
// flat minutes, here and in training. After a longer gap there are no features until another minute is complete.
const maxAgeMS = feature.MaxFill * market.MinuteMS

// quoteOf converts a quote of the contract. A missing or invalid time becomes 0, which no market quote has.
func quoteOf(q *executorv1.Quote) market.Quote {
	m := market.Quote{Bid: q.GetBid(), Ask: q.GetAsk()}
	if t := q.GetTime(); t.IsValid() {
		m.Time = t.GetSeconds()*1000 + int64(t.GetNanos())/int64(time.Millisecond)
	}
	return m
}

// quoteInput observes the quote and returns the features of its symbol at the end of the last complete minute, plus the
// named features that are not computed from quotes. Features that the baseline does not need may be undefined (NaN).
func (s *Service) quoteInput(symbol string, proto *executorv1.Quote, named map[string]float64) (input, error) {
	if err := s.checkOwn(named); err != nil {
		return input{}, err
	}
	if symbol == "" {
		return input{}, rpc.ExecutorError(codes.InvalidArgument, reasonSymbolMissing, "symbol is empty: a quote needs a symbol")
	}
	q := quoteOf(proto)
	note, err := s.book.Observe(symbol, q)
	switch {
	case err != nil:
		return input{}, rpc.ExecutorError(codes.ResourceExhausted, reasonTooManySymbols, "%v (--max-symbols)", err)
	case note == feature.BadPrice:
		return input{}, rpc.ExecutorError(codes.InvalidArgument, reasonQuoteInvalid, "bid %v, ask %v: want prices of 1e-12 to 1e12", q.Bid, q.Ask)
	case note == feature.BadTime:
		return input{}, rpc.ExecutorError(codes.InvalidArgument, reasonQuoteInvalid, "the quote's time is %v: want a time from 1973 to 2199", proto.GetTime().AsTime())
	}
	live := s.baseline.live
	in := input{State: shadow.State{Schema: live, Vector: make([]float64, live.Len()), Named: named}}
	in.asOf, _ = s.book.Vector(symbol, live, in.Vector)
	var undefined []string
	for _, column := range s.baseline.needed {
		if math.IsNaN(in.Vector[column]) {
			undefined = append(undefined, live.Features[column].Name)
		}
	}
	age := q.Time - q.Time%market.MinuteMS - in.asOf
	if len(undefined) == 0 && age <= maxAgeMS {
		return in, nil
	}
	s.metrics.notReady.Inc()
	wanted := s.baseline.inputs
	if in.asOf == 0 { // no feature is known yet, so report on all of them
		wanted = live
	}
	why := s.book.Readiness(symbol, wanted)
	if len(undefined) == 0 && in.asOf > 0 {
		why = fmt.Sprintf("not ready: the features are as of %s, more than %d minutes before the quote: a minute after that hole must be complete",
			time.UnixMilli(in.asOf).UTC().Format(time.RFC3339), feature.MaxFill)
	}
	if note == feature.Ahead {
		why += fmt.Sprintf("; the quote's time, %s, is ahead of this machine's clock by more than --max-quote-ahead", proto.GetTime().AsTime().Format(time.RFC3339))
	}
	if note == feature.Jump {
		why += "; the quote is a jump in time and waits for a second one that agrees"
	}
	return input{}, rpc.ExecutorError(codes.FailedPrecondition, reasonNotReady, "symbol %q: %s", symbol, why).About(undefined)
}
