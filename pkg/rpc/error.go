package rpc

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxNames is how many names at fault are listed, so that an error is not longer than what it is about.
const maxNames = 20

// Names lists the names at fault for a message.
func Names(names []string) string {
	if len(names) <= maxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}

// Error is a failed call: a code, a constant reason, and the names at fault. It is a gRPC status with one ErrorInfo.
type Error struct {
	Code codes.Code
	// Domain is whose reason it is, for example "mlengine.greenlight".
	Domain string
	// Reason is constant, for example "FEATURE_MISSING".
	Reason string
	// Message is for people: what was wrong, with which input, what to do.
	Message string
	// Features are the names at fault, if that is what the failure is about. The first twenty are sent.
	Features []string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// GRPCStatus makes status.FromError and the server send the reason and the names.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.Code, e.Message)
	info := &errdetails.ErrorInfo{Domain: e.Domain, Reason: e.Reason}
	if len(e.Features) > 0 {
		info.Metadata = map[string]string{"features": strings.Join(e.Features[:min(len(e.Features), maxNames)], ",")}
	}
	detailed, err := s.WithDetails(info)
	if err != nil { // only for code OK
		return s
	}
	return detailed
}
