package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// EventTime returns the time that a caller gave to a state, and whether it can be one: from 1973 to 2199, and no further
// ahead of now than ahead, where 0 is no limit. Other times would open days and windows that never end.
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
