package gate_test

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestFormat(t *testing.T) {
	tests := []struct {
		name  string
		unit  gate.Unit
		value float64
		want  string
	}{
		{"score", gate.Score, 0.8634, "0.863"},
		{"percent", gate.Ratio, 0.973, "97.3 %"},
		{"all", gate.Ratio, 1, "100.0 %"},
		{"nearly all", gate.Ratio, 0.9996, "99.96 %"},
		{"none", gate.Ratio, 0, "0.0 %"},
		{"nearly none", gate.Ratio, 0.0004, "0.04 %"},
		{"milliseconds", gate.Millis, 4.23, "4.2 ms"},
		{"microseconds", gate.Millis, 0.042, "0.042 ms"},
		{"count", gate.Count, 12, "12"},
		{"another unit", gate.Unit("bp"), 1.25, "1.2 bp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.unit.Format(tt.value); got != tt.want {
				t.Errorf("Format(%v) = %q, want %q", tt.value, got, tt.want)
			}
		})
	}
}

// Rounding must not move a number to the other side of its threshold.
func TestAchievedStaysOnItsSide(t *testing.T) {
	tests := []struct {
		name      string
		unit      gate.Unit
		value     float64
		threshold float64
		want      string
	}{
		{"far", gate.Ratio, 0.9, 0.95, "90.0 %"},
		{"just below", gate.Ratio, 0.9496, 0.95, "94.96 %"},
		{"just above", gate.Score, 0.62004, 0.62, "0.62004"},
		{"equal", gate.Ratio, 0.95, 0.95, "95.0 %"},
		{"equal in noisy percent", gate.Ratio, 0.07, 0.07, "7.0 %"},
		{"milliseconds", gate.Millis, 79.96, 80, "79.96 ms"},
		{"closer than can be shown", gate.Millis, 80 - 1e-9, 80, "80.0 ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := gate.Result{Value: &tt.value, Op: gate.AtLeast, Threshold: tt.threshold, Unit: tt.unit}
			if got := r.Achieved(); got != tt.want {
				t.Errorf("Achieved() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTarget(t *testing.T) {
	tests := map[string]gate.Rule{
		">= 0.62": {Op: gate.AtLeast, Threshold: 0.62},
		"< 80 ms": {Op: gate.Below, Threshold: 80, Unit: gate.Millis},
		"<= 7 %":  {Op: gate.AtMost, Threshold: 0.07, Unit: gate.Ratio},
		"> 0.5 %": {Op: gate.Above, Threshold: 0.005, Unit: gate.Ratio},
	}
	for want, rule := range tests {
		if got := rule.Target(); got != want {
			t.Errorf("Target() = %q, want %q", got, want)
		}
	}
}
