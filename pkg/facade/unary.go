// Package facade serves unary gRPC handlers as JSON over HTTP, for people with curl. The JSON is that of protobuf; the
// handlers, their limits and their errors are the same.
package facade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

var (
	marshal   = protojson.MarshalOptions{EmitUnpopulated: true}
	unmarshal = protojson.UnmarshalOptions{}
)

// Unary serves a handler whose request has the message type Req (*M must be a proto.Message). The body of a POST is the
// request as JSON; a GET has the empty request. prepare, which may be nil, is given the decoded request before the call.
// refused, which may be nil too, is told the code of a body that never became a request.
func Unary[M any, Req interface {
	*M
	proto.Message
}, Resp proto.Message](call func(context.Context, Req) (Resp, error), prepare func(Req), refused func(codes.Code),
) http.Handler {
	refuse := func(w http.ResponseWriter, code codes.Code, format string, args ...any) {
		if refused != nil {
			refused(code)
		}
		WriteError(w, status.Errorf(code, format, args...))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := Req(new(M))
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rpc.MaxMessage))
			if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
				refuse(w, codes.ResourceExhausted, "the body is larger than %d bytes", tooLarge.Limit)
				return
			}
			if err != nil {
				WriteError(w, status.Errorf(codes.Canceled, "read the body: %v", err))
				return
			}
			if err := unmarshal.Unmarshal(body, req); err != nil {
				refuse(w, codes.InvalidArgument, "the body is not a %s in JSON: %s", req.ProtoReflect().Descriptor().Name(), rpc.Short(err.Error()))
				return
			}
		}
		if prepare != nil {
			prepare(req)
		}
		resp, err := call(r.Context(), req)
		if err != nil {
			WriteError(w, err)
			return
		}
		Write(w, http.StatusOK, resp)
	})
}

// Write sends the message as JSON.
func Write(w http.ResponseWriter, code int, m proto.Message) {
	body, err := marshal.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// protojson varies its blanks on purpose; equal answers should have equal bytes.
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	compact.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(compact.Bytes())
}

// WriteError sends the error's status as JSON: code, message, details with the reason and the names.
func WriteError(w http.ResponseWriter, err error) {
	s := status.Convert(err)
	Write(w, httpCode(s.Code()), s.Proto())
}

// httpCode is the HTTP status of a gRPC code, as google.rpc.Code documents them.
func httpCode(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return 499 // client closed the request
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
