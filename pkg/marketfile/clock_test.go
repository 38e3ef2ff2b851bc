package marketfile

import (
	"testing"
	"time"
)

func TestClockParse(t *testing.T) {
	const at = int64(1704164645000) // 2024-01-02 03:04:05 UTC
	tests := []struct {
		text  string
		want  int64 // 0 means an error
		whole bool
	}{
		{"2024-01-02 03:04:05", at, true},
		{"2024-01-02T03:04:05Z", at, true},
		{" 2024-01-02T03:04:05 UTC ", at, true},
		{"2024-01-02 03:04:05+00:00", at, true},
		{"2024-01-02 05:34:05+02:30", at, true},
		{"2024-01-02T00:04:05-0300", at, true},
		{"2024-01-02 03:04:05.25", at + 250, true},
		{"2024-01-02 03:04:05.000000000", at, true},
		{"2024-01-02 03:04:05.0001", at, false},
		{"2024-01-02 03:04", at - 5000, true},
		{"2024-01-02 03:04Z", at - 5000, true},
		{"1704164645", at, true},
		{"1704164645.25", at + 250, true},
		{"1704164645.2501", at + 250, false},
		{"1704164645000", at, true},
		{"1704164645000.5", at, false},
		{"1704164645000001", at, false},
		{"1704164645000000000", at, true},
		{"9223372036854775807", 0, false}, // the year 2262
		{"9223372036854775808", 0, false},
		{"100", 0, false},
		{"-1704164645", 0, false},
		{"+1704164645", 0, false},
		{"1704164645.x", 0, false},
		{"1.7e9", 0, false},
		{"", 0, false},
		{"2024-01-02", 0, false},
		{"2024-13-02 03:04:05", 0, false},
		{"2024-02-30 03:04:05", 0, false},
		{"2024-01-02 24:00:00", 0, false},
		{"2024-01-02 03:60:00", 0, false},
		{"2024-01-02 03:04:60", 0, false},
		{"2024-01-02 03:04:05.", 0, false},
		{"2024-01-02 03:04:05 CET", 0, false},
		{"2024-01-02 03:04:05+25:00", 0, false},
		{"2024-01-02x03:04:05", 0, false},
		{"2024-0a-02 03:04:05", 0, false},
		{"1024-01-02 03:04:05", 0, false},
		{"9999-01-02 03:04:05", 0, false},
		{"2024-01-02 03:04:5", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, whole, err := clock{}.parse("time", tt.text)
			if (err == nil) != (tt.want != 0) || got != tt.want || whole != tt.whole {
				t.Errorf("got %d, %v, %v; want %d, %v", got, whole, err, tt.want, tt.whole)
			}
		})
	}
}

func TestClockAgreesWithTime(t *testing.T) {
	for ms := int64(1e11 + 1e6); ms < 4e12; ms += 86_399_123_456 {
		text := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
		if got, _, err := (clock{ahead: 7_200_000}).parse("time", text); got != ms || err != nil {
			t.Errorf("%s: got %d, %v; want %d", text, got, err, ms)
		}
	}
}
