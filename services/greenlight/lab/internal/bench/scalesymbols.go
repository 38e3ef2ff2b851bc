package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

const (
	// minQuotes is the minimum number of quotes, quotesPerSymbol the number for each symbol: an hour of them.
	minQuotes       = 60_000
	quotesPerSymbol = 60
	firstQuote      = 1_700_000_040 // a whole minute, in Unix seconds
)

// symbols streams quotes of n symbols, one per minute each, to a new executor.
func (s *scaling) symbols(ctx context.Context, symbols, round int) (_ []float64, err error) {
	own := newFleet(s.opts)
	own.engine = s.engine
	defer func() { err = errors.Join(err, own.Close()) }()
	p, err := own.startExecutor(ctx, fmt.Sprintf("symbols-%d-%d", symbols, round), "--sample-percent", "0", "--max-symbols", strconv.Itoa(symbols))
	if err != nil {
		return nil, err
	}
	c, err := own.connect(shadowOff, p)
	if err != nil {
		return nil, err
	}
	names := make([]string, symbols)
	for i := range names {
		names[i] = fmt.Sprintf("SYMBOL-%d", i)
	}
	before, _ := rig.CPU(p.PID())
	stream, err := executorv1.NewDecisionServiceClient(c.conn).ObserveQuotes(ctx)
	if err != nil {
		return nil, err
	}
	minutes := max(quotesPerSymbol, minQuotes/symbols)
	quote := &executorv1.Quote{}
	req := &executorv1.ObserveQuotesRequest{Quotes: []*executorv1.Quote{quote}}
	for minute := range minutes {
		at := timestamppb.New(time.Unix(firstQuote+60*int64(minute), 0))
		bid := 100 + float64(minute%7)/10
		for _, name := range names {
			req.Symbol, quote.Time, quote.Bid, quote.Ask = name, at, bid, bid+0.01
			if err := stream.Send(req); err != nil {
				_, err = stream.CloseAndRecv()
				return nil, fmt.Errorf("quotes: %w", err)
			}
		}
	}
	taken, err := stream.CloseAndRecv()
	if err != nil {
		return nil, fmt.Errorf("quotes: %w", err)
	}
	if n := taken.GetAccepted(); n != uint64(minutes*symbols) {
		return nil, fmt.Errorf("quotes: %d of %d were accepted", n, minutes*symbols)
	}
	after, _ := rig.CPU(p.PID())
	resident, _ := p.Resident() // 0 if the system does not report it
	return []float64{float64((after - before).Nanoseconds()) / 1e3 / float64(minutes*symbols), float64(resident) / 1e6}, nil
}
