package rpc

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// An error is bounded, whatever the caller sent: it quotes him, travels in the trailers, of which a client takes some
// kilobytes, and ends in the log.
const (
	// maxNames is how many names at fault are listed.
	maxNames = 20
	// maxName and maxText are in bytes: of a name, and of a message.
	maxName = 64
	maxText = 2048
)

// Names lists the names at fault for a message.
func Names(names []string) string {
	list := strings.Join(first(names), ", ")
	if len(names) > maxNames {
		list += fmt.Sprintf(" and %d more", len(names)-maxNames)
	}
	return list
}

// first are the names that are listed.
func first(names []string) []string {
	list := make([]string, min(len(names), maxNames))
	for i := range list {
		list[i] = text.Cut(names[i], maxName)
	}
	return list
}

// Short is the text of an error that quotes what a caller sent, as it can be sent back: not too long, and in UTF-8.
func Short(s string) string { return text.Cut(s, maxText) }

// Error is a failed call: a code, a constant reason, and the names at fault. It is a gRPC status with one ErrorInfo.
type Error struct {
	Code codes.Code
	// Domain is whose reason it is, for example "mlengine.greenlight".
	Domain string
	// Reason is constant, for example "FEATURE_MISSING".
	Reason string
	// Message is for people: what was wrong, with which input, what to do. Its first 2 KiB are sent.
	Message string
	// Features are the names at fault, if that is what the failure is about. The first twenty are sent.
	Features []string
}

// Error implements error.
func (e *Error) Error() string { return Short(e.Message) }

// GRPCStatus makes status.FromError and the server send the reason and the names.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.Code, e.Error())
	info := &errdetails.ErrorInfo{Domain: e.Domain, Reason: e.Reason}
	if len(e.Features) > 0 {
		info.Metadata = map[string]string{"features": strings.Join(first(e.Features), ",")}
	}
	detailed, err := s.WithDetails(info)
	if err != nil { // only for code OK
		return s
	}
	return detailed
}
