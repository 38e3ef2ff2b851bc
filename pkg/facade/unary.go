// Package facade serves unary gRPC handlers as JSON over HTTP, for people with curl. It uses protobuf's JSON mapping.
// Handlers, limits and errors are the same as over gRPC.
package facade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

var (
	marshal   = protojson.MarshalOptions{EmitUnpopulated: true}
	unmarshal = protojson.UnmarshalOptions{}
)

// Route configures how a handler is served. All fields but Bodies are optional.
type Route[Req proto.Message] struct {
	// Bodies bounds the bodies being read. All routes of a process share one. Required for a POST.
	Bodies *Bodies
	// Prepare, if set, is called with the decoded request before the handler.
	Prepare func(Req)
	// Changes, if set, reports whether the request changes anything but counters. Such a request must have a JSON content
	// type.
	Changes func(Req) bool
	// Refused, if set, is called with the status code if a body could not be decoded.
	Refused func(codes.Code)
}

// errEncoding is returned for an unsupported Content-Encoding; httpCode has no status for it.
var errEncoding = status.Error(codes.InvalidArgument, "the Content-Encoding must be gzip or absent")

// Unary serves a handler for requests of type Req (*M must be a proto.Message). The body of a POST is the request as JSON,
// optionally compressed with gzip; a GET has an empty request.
func Unary[M any, Req interface {
	*M
	proto.Message
}, Resp proto.Message](call func(context.Context, Req) (Resp, error), route Route[Req],
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := Req(new(M))
		if r.Method == http.MethodPost {
			if err := decode(w, r, req, route); err != nil {
				if code := status.Code(err); route.Refused != nil && code != codes.Canceled {
					route.Refused(code)
				}
				WriteError(w, err)
				return
			}
		}
		if route.Prepare != nil {
			route.Prepare(req)
		}
		resp, err := call(r.Context(), req)
		if err != nil {
			WriteError(w, err)
			return
		}
		Write(w, http.StatusOK, resp)
	})
}

// decode reads the request.
func decode[Req proto.Message](w http.ResponseWriter, r *http.Request, req Req, route Route[Req]) error {
	isJSON, err := contentType(r)
	if err != nil {
		return err
	}
	body, err := route.Bodies.read(w, r)
	if err != nil {
		return err
	}
	if body, err = unpack(body, strings.Join(r.Header.Values("Content-Encoding"), ",")); err != nil {
		return err
	}
	if err := unmarshal.Unmarshal(body, req); err != nil {
		return status.Errorf(codes.InvalidArgument, "the body is not a %s in JSON: %s", req.ProtoReflect().Descriptor().Name(), rpc.Short(err.Error()))
	}
	if !isJSON && route.Changes != nil && route.Changes(req) {
		return errNotJSON
	}
	return nil
}

// Write sends the message as JSON.
func Write(w http.ResponseWriter, code int, m proto.Message) {
	body, err := marshal.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// protojson varies its whitespace on purpose; equal answers should have equal bytes.
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
	code := httpCode(s.Code())
	if errors.Is(err, errEncoding) || errors.Is(err, errNotJSON) {
		code = http.StatusUnsupportedMediaType
	}
	Write(w, code, s.Proto())
}

// httpCode returns the HTTP status for a gRPC code, as documented in google.rpc.Code.
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

// camelCase maps the older spelling of feature names to the current one: spreadBp to spread_bp, midLogret1m to
// mid_logret_1m.
var camelCase = func() map[string]string {
	m := map[string]string{}
	for _, def := range feature.Catalogue() {
		words := strings.Split(def.Name, "_")
		for i, w := range words[1:] {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
		if camel := strings.Join(words, ""); camel != def.Name {
			m[camel] = def.Name
		}
	}
	return m
}()

// CanonicalNames rewrites camelCase keys from older callers to the feature names. A feature in both spellings is left alone,
// so that the handler refuses the unknown name, and neither value wins silently.
func CanonicalNames(features map[string]float64) {
	for key, v := range features {
		name, older := camelCase[key]
		if !older {
			continue
		}
		if _, both := features[name]; both {
			continue
		}
		delete(features, key)
		features[name] = v
	}
}
