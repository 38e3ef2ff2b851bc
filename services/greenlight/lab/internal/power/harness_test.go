package power

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func quiet(runs, shadows int) Options {
	return Options{Policy: gate.DefaultPolicy(), Runs: runs, Shadows: shadows, Seed: 1, Progress: func(int, int) {}}
}

// asked holds the counts at which the rules abort runs of a given length.
func asked(t *testing.T, kind Kind, shadows int) *boundaries {
	t.Helper()
	b, err := newBoundaries(t.Context(), gate.DefaultPolicy(), kind, shadows)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
