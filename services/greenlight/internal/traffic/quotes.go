package traffic

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/market"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

const (
	// quotesAhead is how far quotes are sent ahead of the states, to save calls. It must be shorter than the horizon of a
	// label: a score that comes after its label is not a forecast.
	quotesAhead = 8 * time.Minute
	// quotesPerMessage keeps messages below the limit of executor.
	quotesPerMessage = 500
	quotesTimeout    = 30 * time.Second
)

// Quotes sends the quotes of a market in step with its states, so that executor sees what happened after them.
type Quotes struct {
	executor fleet.Executor
	symbol   string
	bars     []market.Bar
}

// NewQuotes returns the quotes of the bars: four a minute, at its open, low, high and close, without a spread.
func NewQuotes(e fleet.Executor, symbol string, bars []market.Bar) *Quotes {
	return &Quotes{e, symbol, bars}
}

// Until sends the quotes up to t, and somewhat more, unless they were sent before. The executor has them when Until returns.
func (q *Quotes) Until(ctx context.Context, t time.Time) error {
	if len(q.bars) == 0 || q.bars[0].End() > t.UnixMilli() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quotesTimeout)
	defer cancel()
	stream, err := q.executor.Decisions.ObserveQuotes(ctx)
	if err != nil {
		return err
	}
	req := &executorv1.ObserveQuotesRequest{Symbol: q.symbol}
	for until := t.Add(quotesAhead).UnixMilli(); len(q.bars) > 0 && q.bars[0].End() <= until; q.bars = q.bars[1:] {
		b := &q.bars[0]
		for i, price := range []float64{b.Open, b.Low, b.High, b.Close} {
			at := time.UnixMilli(b.Start).Add(time.Duration(i) * 15 * time.Second)
			req.Quotes = append(req.Quotes, &executorv1.Quote{Time: timestamppb.New(at), Bid: price, Ask: price})
		}
		if len(req.GetQuotes()) >= quotesPerMessage {
			if err := stream.Send(req); err != nil {
				break // CloseAndRecv returns the error
			}
			req.Quotes = nil
		}
	}
	_ = stream.Send(req) // as above
	if _, err := stream.CloseAndRecv(); err != nil {
		return fmt.Errorf("quotes of %s: %w", q.symbol, err)
	}
	return nil
}
