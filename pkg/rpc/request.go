package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

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
