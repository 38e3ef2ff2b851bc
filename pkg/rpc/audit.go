package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// maxAudited bounds what the audit log has of a request, in bytes.
const maxAudited = 256

// unary admits operators alone to the control services, and writes an audit line for every call of theirs: who, what, from
// where, and how it ended. Calls that are not admitted have such lines at a limited rate, so that they cannot fill the disk;
// the next line says how many were suppressed.
func (c *Control) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	if !c.guards(service(info.FullMethod)) {
		return handler(ctx, req)
	}
	start := time.Now()
	who, err := c.authorize(ctx)
	logger := c.logger
	if err == nil {
		logger = telemetry.Audit(logger)
		resp, err = handler(context.WithValue(ctx, callerKey{}, who), req)
	}
	audit(ctx, logger, who, info.FullMethod, requestText(req), start, err)
	return resp, err
}

// stream is unary for a control service that streams. There is none yet, and there shall be none that is open.
func (c *Control) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !c.guards(service(info.FullMethod)) {
		return handler(srv, ss)
	}
	start := time.Now()
	who, err := c.authorize(ss.Context())
	logger := c.logger
	if err == nil {
		logger = telemetry.Audit(logger)
		err = handler(srv, ss)
	}
	audit(ss.Context(), logger, who, info.FullMethod, "", start, err)
	return err
}

func audit(ctx context.Context, logger *slog.Logger, who, method, request string, start time.Time, err error) {
	from := "unknown"
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	logger.InfoContext(ctx, "control call", "who", who, "method", method, "request", request, "from", from,
		"result", status.Code(err).String(), "took", time.Since(start))
}

// requestText is the request as JSON, cut where it is long.
func requestText(req any) string {
	m, ok := req.(proto.Message)
	if !ok {
		return ""
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		return ""
	}
	// protojson varies its blanks on purpose; equal requests should have equal lines.
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return ""
	}
	if compact.Len() > maxAudited {
		return compact.String()[:maxAudited] + "..."
	}
	return compact.String()
}

// service is the name of the service of a method, "/service/method".
func service(fullMethod string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	return name
}
