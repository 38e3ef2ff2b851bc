package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// maxAudited is how much of a request the audit log shows, in bytes.
const maxAudited = 256

// admit runs the call if its caller is an operator. Every call of an operator gets an audit line: who, what, from where, and
// the result. Refused calls get such lines at a limited rate, so that they cannot fill the disk; the next line has the number
// of suppressed lines.
func (c *Control) admit(ctx context.Context, method string, req any, call func(context.Context) error) error {
	start := time.Now()
	who, err := c.authorize(ctx)
	logger := c.logger
	if err == nil {
		logger = telemetry.Audit(logger)
		err = call(context.WithValue(ctx, callerKey{}, who))
	}
	audit(ctx, logger, who, method, requestText(req), start, err)
	return err
}

// unary admits only operators to the control services.
func (c *Control) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	if !c.guards(service(info.FullMethod)) {
		return handler(ctx, req)
	}
	err = c.admit(ctx, info.FullMethod, req, func(ctx context.Context) (err error) {
		resp, err = handler(ctx, req)
		return err
	})
	return resp, err
}

// stream does the same for a streaming control service. There is none yet; this keeps a future one from being open to all.
func (c *Control) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !c.guards(service(info.FullMethod)) {
		return handler(srv, ss)
	}
	return c.admit(ss.Context(), info.FullMethod, nil, func(context.Context) error { return handler(srv, ss) })
}

// AsOperator runs call if the caller of the method is an operator, and writes an audit line, as for a control service. Use it
// for the parts of a public method that only operators may use.
func (s *Server) AsOperator(ctx context.Context, method string, req any, call func(context.Context) error) error {
	if s.control == nil {
		return status.Error(codes.PermissionDenied, "this server has no operators")
	}
	return s.control.admit(ctx, method, req, call)
}

func audit(ctx context.Context, logger *slog.Logger, who, method, request string, start time.Time, err error) {
	from := "unknown"
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	logger.InfoContext(ctx, "control call", "who", who, "method", method, "request", request, "from", from,
		"result", status.Code(err).String(), "took", time.Since(start))
}

// requestText returns the request as JSON, shortened to maxAudited bytes.
func requestText(req any) string {
	m, ok := req.(proto.Message)
	if !ok {
		return ""
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		return ""
	}
	// protojson varies its whitespace on purpose; equal requests should have equal lines.
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return ""
	}
	if compact.Len() > maxAudited {
		return compact.String()[:maxAudited] + "..."
	}
	return compact.String()
}

// service returns the service of a full method name, "/service/method".
func service(fullMethod string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	return name
}
