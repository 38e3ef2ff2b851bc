package gate

import (
	"fmt"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as people write it in YAML and JSON: "30m", "1h30m", "45s".
type Duration time.Duration

// String is the duration for people: "30m", where that of time says "30m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration: "30m", "1h30m", "45s".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want a form like 30m or 45s", text)
	}
	*d = Duration(v)
	return nil
}
