package rpc

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// An error is bounded whatever the caller sent: it quotes the caller, is logged, and travels in trailers, which a client
// limits to a few kilobytes.
const (
	// maxNames is how many invalid names are listed.
	maxNames = 20
	// maxName limits a name and maxText a message, in bytes.
	maxName = 64
	maxText = 2048
)

// Names lists the invalid names for a message.
func Names(names []string) string {
	list := strings.Join(first(names), ", ")
	if len(names) > maxNames {
		list += fmt.Sprintf(" and %d more", len(names)-maxNames)
	}
	return list
}

// first returns the listed names, shortened.
func first(names []string) []string {
	list := make([]string, min(len(names), maxNames))
	for i := range list {
		list[i] = text.Cut(names[i], maxName)
	}
	return list
}

// Short returns the text of an error that quotes a caller, bounded and in valid UTF-8.
func Short(s string) string { return text.Cut(s, maxText) }

// Error is a failed call: a code, a constant reason, and the invalid names. It is a gRPC status with one ErrorInfo.
type Error struct {
	Code codes.Code
	// Domain is the service that defines the reason, for example "mlengine.greenlight".
	Domain string
	// Reason is constant, for example "FEATURE_MISSING".
	Reason string
	// Message is for people: what was wrong, which input, what to do. Its first 2 KiB are sent.
	Message string
	// Features are the invalid names, if the failure is about names. The first twenty are sent.
	Features []string

	// status caches GRPCStatus. Interceptors and gRPC each ask for it, and building it is most of the cost of refusing an
	// invalid request.
	status atomic.Pointer[status.Status]
}

// ExecutorError returns an error of executor. The reason is a constant or an enum of the contract; an enum's prefix is dropped.
func ExecutorError[R ~string | ~int32](code codes.Code, reason R, format string, args ...any) *Error {
	return &Error{Code: code, Domain: "executor.greenlight", Reason: word(reason), Message: fmt.Sprintf(format, args...)}
}

// EngineError returns an error of ml-engine. The reason is a constant or an enum of the contract; an enum's prefix is dropped.
func EngineError[R ~string | ~int32](code codes.Code, reason R, format string, args ...any) *Error {
	return &Error{Code: code, Domain: "mlengine.greenlight", Reason: word(reason), Message: fmt.Sprintf(format, args...)}
}

// word returns "LEASE_HELD" for ROLLOUT_ERROR_REASON_LEASE_HELD.
func word(reason any) string {
	s := fmt.Sprint(reason)
	if _, after, found := strings.Cut(s, "ERROR_REASON_"); found {
		return after
	}
	return s
}

// About adds the invalid names and returns the error.
func (e *Error) About(names []string) *Error {
	e.Features = names
	return e
}

// Error implements error.
func (e *Error) Error() string { return Short(e.Message) }

// Info returns the reason and the invalid names, as they are sent.
func (e *Error) Info() *errdetails.ErrorInfo {
	info := &errdetails.ErrorInfo{Domain: e.Domain, Reason: e.Reason}
	if len(e.Features) > 0 {
		info.Metadata = map[string]string{"features": strings.Join(first(e.Features), ",")}
	}
	return info
}

// GRPCStatus returns the status that the server sends, with the reason and the names. The error must not change afterwards.
func (e *Error) GRPCStatus() *status.Status {
	if s := e.status.Load(); s != nil {
		return s
	}
	s := status.New(e.Code, e.Error())
	if detailed, err := s.WithDetails(e.Info()); err == nil { // it fails only for code OK
		s = detailed
	}
	e.status.Store(s)
	return s
}

// Reason returns the reason of the ErrorInfo of a failed call. It is empty without one.
func Reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// Limits on the fields of requests to both services, in bytes.
const (
	MaxRequestID = 256
	MaxSymbol    = 64
)

// EventTime returns the event time of a request, and reports whether it is valid: from 1973 to 2199, and at most ahead of
// now by ahead, where 0 is no limit. Other times would open days and windows that never end.
func EventTime(t *timestamppb.Timestamp, now time.Time, ahead time.Duration) (at time.Time, ok bool) {
	if t == nil || !t.IsValid() {
		return time.Time{}, false
	}
	at = t.AsTime()
	if !EventMS(at.UnixMilli(), now, ahead) {
		return time.Time{}, false
	}
	return at, true
}

// EventMS is [EventTime] for Unix milliseconds.
func EventMS(ms int64, now time.Time, ahead time.Duration) bool {
	return market.IsTime(ms) && (ahead == 0 || ms <= now.Add(ahead).UnixMilli())
}
