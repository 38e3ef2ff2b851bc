package drift_test

import (
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// The bands at their edges, for the current and the first evidence schema.
func TestStatusOf(t *testing.T) {
	for _, tt := range []struct {
		psi      float64
		want, v1 drift.Status
	}{
		{0, "stable", "stable"},
		{0.0999, "stable", "stable"},
		{0.1, "moderate", "warning"},
		{0.15, "moderate", "warning"},
		{0.2, "moderate", "warning"},
		{0.2001, "warning", "critical"},
		{0.25, "warning", "critical"},
		{0.3, "warning", "critical"},
		{0.3001, "critical", "critical"},
		{math.Inf(1), "critical", "critical"},
		{math.NaN(), "critical", "critical"},
	} {
		if got := drift.StatusOf(tt.psi); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.psi, got, tt.want)
		}
		if got := drift.StatusOfV1(tt.psi); got != tt.v1 {
			t.Errorf("%v of v1: got %s, want %s", tt.psi, got, tt.v1)
		}
	}
}
