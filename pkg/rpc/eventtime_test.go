package rpc

import (
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestEventTime(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	of := timestamppb.New
	for name, tt := range map[string]struct {
		time  *timestamppb.Timestamp
		ahead time.Duration
		want  bool
	}{
		"none":                    {nil, time.Minute, false},
		"1970, which is a zero":   {&timestamppb.Timestamp{}, time.Minute, false},
		"negative nanoseconds":    {&timestamppb.Timestamp{Seconds: now.Unix(), Nanos: -1}, time.Minute, false},
		"too many nanoseconds":    {&timestamppb.Timestamp{Seconds: now.Unix(), Nanos: 1e9}, time.Minute, false},
		"the year 0001":           {of(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)), 0, false},
		"1800":                    {of(time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)), 0, false},
		"the year 9999":           {of(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)), 0, false},
		"no timestamp at all":     {&timestamppb.Timestamp{Seconds: math.MaxInt64}, 0, false},
		"2150":                    {of(time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)), time.Minute, false},
		"2150 without a limit":    {of(time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)), 0, true},
		"2012, a replay":          {of(time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC)), time.Minute, true},
		"as late as can be":       {of(now.Add(time.Minute)), time.Minute, true},
		"a millisecond too late":  {of(now.Add(time.Minute + time.Millisecond)), time.Minute, false},
		"now":                     {of(now), time.Minute, true},
		"seconds as milliseconds": {of(time.UnixMilli(now.Unix())), time.Minute, false},
	} {
		at, ok := EventTime(tt.time, now, tt.ahead)
		if ok != tt.want || ok && !at.Equal(tt.time.AsTime()) || !ok && !at.IsZero() {
			t.Errorf("%s: got %v, %v, want %v", name, at, ok, tt.want)
		}
	}
}
