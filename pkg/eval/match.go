package eval

import (
	"fmt"
	"math"
)

// MatchRate is the share of rows in which two scores differ by at most tolerance, in [0,1]: whether the second scorer
// would have said the same, not whether either is right. NaN without rows. It panics when the lengths differ.
func MatchRate(a, b []float64, tolerance float64) float64 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("eval: %d scores against %d", len(a), len(b)))
	}
	n := 0
	for i := range a {
		if math.Abs(a[i]-b[i]) <= tolerance {
			n++
		}
	}
	return float64(n) / float64(len(a))
}
