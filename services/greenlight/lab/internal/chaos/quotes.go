package chaos

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
)

// market days: before the run, to make features ready, and during the run
const (
	readyDays = 3
	chaosDays = 60
)

// feed sends a market, minute by minute, to the restarted executor, and computes the same features here.
type feed struct {
	symbol   string
	all      []market.Quote // one a minute
	next     int
	mirror   *feature.Builders
	schema   *feature.Schema // of the baseline's inputs
	baseline *model.Baseline
	book     *book
	second   *second
}

func newFeed(b *model.Baseline, books *book, second *second, seed uint64) (*feed, error) {
	sim, err := market.Simulate(market.SimulateOptions{Seed: seed, Days: readyDays + chaosDays, Symbol: "CHAOS-PERP"})
	if err != nil {
		return nil, err
	}
	f := &feed{symbol: "CHAOS-PERP", baseline: b, book: books, second: second}
	minute := int64(0)
	for q := range sim.Quotes() {
		if m := q.Time / market.MinuteMS; m != minute {
			f.all, minute = append(f.all, q), m
		}
	}
	if f.schema, err = feature.NewSchema("inputs", b.Inputs()...); err != nil {
		return nil, err
	}
	f.mirror, err = feature.NewBuilders(feature.BuildersOptions{})
	return f, err
}

func quoteProto(q market.Quote) *executorv1.Quote {
	return &executorv1.Quote{Time: timestamppb.New(time.UnixMilli(q.Time)), Bid: q.Bid, Ask: q.Ask}
}

// observe streams batches of quotes to an executor.
func observe(ctx context.Context, e *faults.Executor, symbol string, batches iter.Seq[[]market.Quote], opts ...grpc.CallOption) (*executorv1.ObserveQuotesResponse, error) {
	stream, err := e.Decisions.ObserveQuotes(ctx, opts...)
	if err != nil {
		return nil, err
	}
	for batch := range batches {
		req := &executorv1.ObserveQuotesRequest{Symbol: symbol}
		for _, q := range batch {
			req.Quotes = append(req.Quotes, quoteProto(q))
		}
		if err := stream.Send(req); err != nil {
			break // CloseAndRecv returns the reason
		}
	}
	return stream.CloseAndRecv()
}

// prepare streams the first days to the executor and the mirror.
func (f *feed) prepare(ctx context.Context, e *faults.Executor) error {
	f.next = readyDays * 24 * 60
	taken := uint64(0)
	for _, q := range f.all[:f.next] {
		note, err := f.mirror.Observe(f.symbol, q)
		if err != nil {
			return err
		}
		if note.Taken() {
			taken++
		}
	}
	resp, err := observe(ctx, e, f.symbol, slices.Chunk(f.all[:f.next], 500), grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("ObserveQuotes: %w", err)
	}
	if resp.GetAccepted() != taken {
		f.book.wrong(streams, "%d quotes accepted: want %d", resp.GetAccepted(), taken)
	}
	f.book.add(streams, func(c *Calls) { c.Answered++ })
	return nil
}

// decide sends the next minute's quote and checks the decision on the features that it completes. A refused quote is sent
// again: the executor ignores quotes that it has already seen.
func (f *feed) decide(ctx context.Context, _ int) {
	if f.next == len(f.all) {
		return // the market is over
	}
	q := f.all[f.next]
	e, draining := f.second.now.Load(), f.second.draining.Load()
	kind, decide := quotes, e.Predict
	if f.next%2 == 1 {
		kind, decide = decideQuotes, e.Streams.Decide
	}
	resp, err := decide(ctx, &executorv1.PredictRequest{Symbol: f.symbol, Quote: quoteProto(q)})
	switch {
	case (draining || f.second.draining.Load()) && (status.Code(err) == codes.Unavailable || status.Code(err) == codes.Canceled):
		f.book.add(kind, func(c *Calls) { c.Refused++ })
		return // it is draining: the next one gets the same quote
	case err != nil:
		f.book.lost(kind, err)
		return
	}
	f.next++
	if _, err := f.mirror.Observe(f.symbol, q); err != nil {
		f.book.lost(kind, err)
		return
	}
	x := make([]float64, f.schema.Len())
	asOf, ready := f.mirror.Vector(f.symbol, f.schema, x)
	want := f.baseline.Score(x)
	if !ready || !same(resp.GetScore(), want) || resp.GetFeatureTime().AsTime().UnixMilli() != asOf {
		f.book.wrong(kind, "%v as of %v: want %v as of %d, ready %t", resp.GetScore(), resp.GetFeatureTime().AsTime().UnixMilli(), want, asOf, ready)
		return
	}
	f.book.add(kind, func(c *Calls) { c.Answered++ })
}

// stream sends quotes of another symbol to the steady executor and checks the counts in its answer.
func stream(b *book, e *faults.Executor, all []market.Quote) func(context.Context, int) {
	next := 0
	return func(ctx context.Context, _ int) {
		const batch = 100
		if next+batch > len(all) {
			return
		}
		sent := all[next : next+batch]
		next += batch
		resp, err := observe(ctx, e, "STREAM-PERP", slices.Values([][]market.Quote{sent, sent[:10]})) // already seen
		switch {
		case err != nil:
			b.lost(streams, err)
		case resp.GetAccepted() != batch || resp.GetIgnored() != 10:
			b.wrong(streams, "%d quotes accepted, %d ignored: want %d and 10", resp.GetAccepted(), resp.GetIgnored(), batch)
		default:
			b.add(streams, func(c *Calls) { c.Answered++ })
		}
	}
}
