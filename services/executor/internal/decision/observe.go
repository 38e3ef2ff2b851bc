package decision

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// quoteNotes are the notes in the words of the contract.
var quoteNotes = map[feature.Note]executorv1.QuoteNote{
	feature.Accepted:    executorv1.QuoteNote_QUOTE_NOTE_ACCEPTED,
	feature.CrossedKept: executorv1.QuoteNote_QUOTE_NOTE_CROSSED_KEPT,
	feature.Duplicate:   executorv1.QuoteNote_QUOTE_NOTE_DUPLICATE,
	feature.OutOfOrder:  executorv1.QuoteNote_QUOTE_NOTE_OUT_OF_ORDER,
	feature.Crossed:     executorv1.QuoteNote_QUOTE_NOTE_CROSSED,
	feature.BadPrice:    executorv1.QuoteNote_QUOTE_NOTE_BAD_PRICE,
	feature.BadTime:     executorv1.QuoteNote_QUOTE_NOTE_BAD_TIME,
	feature.Jump:        executorv1.QuoteNote_QUOTE_NOTE_JUMP,
	feature.Ahead:       executorv1.QuoteNote_QUOTE_NOTE_AHEAD,
}

var errStopping = rpc.ExecutorError(codes.Unavailable, reasonStopping, "executor stops: begin another stream when it is back")

// quoteCounts counts the quotes of a stream by what was done with them.
type quoteCounts struct {
	notes   map[feature.Note]uint64
	crowded uint64
}

// ObserveQuotes implements DecisionService.
func (s *Service) ObserveQuotes(stream grpc.ClientStreamingServer[executorv1.ObserveQuotesRequest, executorv1.ObserveQuotesResponse]) error {
	select {
	case <-s.stopping:
		return errStopping
	default:
	}
	// A stream may last as long as the market, and a stop does not wait for it. Only the return of this handler ends Recv,
	// so a goroutine receives. Both ends of the channel also wait for the end of the stream's context: a client that gives
	// up the stream ends both.
	ctx := stream.Context()
	type received struct {
		req *executorv1.ObserveQuotesRequest
		err error
	}
	next := make(chan received)
	go func() {
		for {
			req, err := stream.Recv()
			select {
			case next <- received{req, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	t := quoteCounts{notes: map[feature.Note]uint64{}}
	for {
		select {
		case <-s.stopping:
			return errStopping
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case r := <-next:
			switch {
			case errors.Is(r.err, io.EOF):
				return stream.SendAndClose(t.response())
			case r.err != nil:
				return r.err
			}
			if err := s.observe(r.req, &t); err != nil {
				return err
			}
		}
	}
}

// observe takes a batch of quotes.
func (s *Service) observe(req *executorv1.ObserveQuotesRequest, t *quoteCounts) error {
	symbol := req.GetSymbol()
	if symbol == "" {
		return rpc.ExecutorError(codes.InvalidArgument, reasonSymbolMissing, "symbol is empty: quotes are those of a symbol")
	}
	if err := checkLength(symbol); err != nil {
		return err
	}
	for _, q := range req.GetQuotes() {
		note, err := s.book.Observe(symbol, quoteOf(q))
		if err != nil { // there is no room for the symbol: the others of the stream are none the worse
			t.crowded++
			continue
		}
		t.notes[note]++
	}
	return nil
}

func (t *quoteCounts) response() *executorv1.ObserveQuotesResponse {
	resp := &executorv1.ObserveQuotesResponse{Ignored: t.crowded}
	for _, n := range feature.Notes() {
		count := t.notes[n]
		if n.Taken() {
			resp.Accepted += count
		} else {
			resp.Ignored += count
		}
		resp.Notes = append(resp.Notes, &executorv1.QuoteCount{Note: quoteNotes[n], Count: count})
	}
	resp.Notes = append(resp.Notes, &executorv1.QuoteCount{
		Note: executorv1.QuoteNote_QUOTE_NOTE_TOO_MANY_SYMBOLS, Count: t.crowded,
	})
	return resp
}

// EndStreams ends the streams of quotes, now and from now on, so that a graceful stop need not wait for them. It is called
// once.
func (s *Service) EndStreams() { close(s.stopping) }
