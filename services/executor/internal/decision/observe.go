package decision

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// quoteNotes maps the notes to the contract's.
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

var errStopping = rpc.ExecutorError(codes.Unavailable, reasonStopping, "executor is stopping: open a new stream when it is back")

// quoteCounts counts the quotes of a stream by their note.
type quoteCounts struct {
	notes          map[feature.Note]uint64
	tooManySymbols uint64
}

// ObserveQuotes implements DecisionService.
func (s *Service) ObserveQuotes(stream grpc.ClientStreamingServer[executorv1.ObserveQuotesRequest, executorv1.ObserveQuotesResponse]) error {
	t := quoteCounts{notes: map[feature.Note]uint64{}}
	err := rpc.Receive(stream, s.stopping, errStopping, func(req *executorv1.ObserveQuotesRequest) error { return s.observe(req, &t) })
	if err != nil {
		return err
	}
	return stream.SendAndClose(t.response())
}

// observe feeds a batch of quotes into the features.
func (s *Service) observe(req *executorv1.ObserveQuotesRequest, t *quoteCounts) error {
	symbol := req.GetSymbol()
	if symbol == "" {
		return rpc.ExecutorError(codes.InvalidArgument, reasonSymbolMissing, "symbol is empty: quotes need a symbol")
	}
	if err := checkLength(symbol); err != nil {
		return err
	}
	for _, q := range req.GetQuotes() {
		note, err := s.book.Observe(symbol, quoteOf(q))
		if err != nil { // too many symbols: the stream's other quotes are still observed
			t.tooManySymbols++
			continue
		}
		t.notes[note]++
	}
	return nil
}

func (t *quoteCounts) response() *executorv1.ObserveQuotesResponse {
	resp := &executorv1.ObserveQuotesResponse{Ignored: t.tooManySymbols}
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
		Note: executorv1.QuoteNote_QUOTE_NOTE_TOO_MANY_SYMBOLS, Count: t.tooManySymbols,
	})
	return resp
}

// EndStreams ends open streams of decisions and quotes and refuses new ones, so that a graceful stop need not wait for them. It
// must be called only once.
func (s *Service) EndStreams() { close(s.stopping) }
