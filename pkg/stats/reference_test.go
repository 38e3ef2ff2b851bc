package stats_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// vectors reads reference values; the head of the script beside the file says where they come from.
func vectors[T any](t *testing.T, path string) []T {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(v) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return v
}

// near is equality to a relative error.
func near(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*math.Abs(want)
}

// off is the relative error, for the log.
func off(got, want float64) float64 {
	if got == want {
		return 0
	}
	return math.Abs(got-want) / math.Abs(want)
}
