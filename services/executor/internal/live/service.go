package live

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Service is executor's FeedService.
type Service struct {
	executorv1.UnimplementedFeedServiceServer

	book *Book
}

// NewService returns a service that controls the book.
func NewService(b *Book) *Service { return &Service{book: b} }

// maxReason limits the reason of a call, in bytes.
const maxReason = 256

// ResetSymbol implements FeedService.
func (s *Service) ResetSymbol(ctx context.Context, req *executorv1.ResetSymbolRequest) (*executorv1.ResetSymbolResponse, error) {
	symbol := req.GetSymbol()
	switch {
	case symbol == "":
		return nil, rpc.ExecutorError(codes.InvalidArgument, "SYMBOL_MISSING", "symbol is empty: name the one to reset")
	case len(symbol) > rpc.MaxSymbol:
		return nil, rpc.ExecutorError(codes.InvalidArgument, "FIELD_TOO_LONG", "symbol has %d bytes: at most %d", len(symbol), rpc.MaxSymbol)
	case len(req.GetReason()) > maxReason:
		return nil, rpc.ExecutorError(codes.InvalidArgument, "FIELD_TOO_LONG", "reason has %d bytes: at most %d", len(req.GetReason()), maxReason)
	case !s.book.Reset(symbol):
		return nil, rpc.ExecutorError(codes.NotFound, "SYMBOL_UNKNOWN", "symbol %q has no features: none of its quotes was accepted", symbol)
	}
	s.book.logger.WarnContext(ctx, "the features of a symbol were reset: it is not ready until it has had a day of quotes",
		"symbol", symbol, "who", rpc.Caller(ctx), "reason", req.GetReason())
	return &executorv1.ResetSymbolResponse{}, nil
}
