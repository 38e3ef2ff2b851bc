package gate_test

import (
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 30 * time.Minute: "30m", 4 * time.Hour: "4h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s",
		time.Hour + 5*time.Second: "1h0m5s", 10 * time.Second: "10s", 20 * time.Hour: "20h", -10 * time.Minute: "-10m",
		1500 * time.Microsecond: "1.5ms",
	} {
		got := gate.Duration(d).String()
		if got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
		var back gate.Duration
		if err := back.UnmarshalText([]byte(got)); err != nil || time.Duration(back) != d {
			t.Errorf("%q: got %v, %v, want %v", got, back, err, d)
		}
	}
	for _, text := range []string{"", "30", "half an hour"} {
		if err := new(gate.Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
