package stats_test

import (
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

func TestNormalQuantile(t *testing.T) {
	tests := []struct {
		name    string
		p, want float64
	}{
		{"median", 0.5, 0},
		{"two-sided 95 %", 0.975, stats.Z95},
		{"the other side", 0.025, -stats.Z95},
		{"99 %", 0.99, 2.3263478740408408},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stats.NormalQuantile(tt.p); math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
