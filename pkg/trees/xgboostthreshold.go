package trees

import "math"

// xgboostThreshold returns the double T for which x <= T exactly when float32(x) < t: XGBoost holds a row as floats and
// goes left when the value is below the split condition (predictor::GetNextNode). The doubles that round to a float
// below t reach up to the middle between t and the float before it; the middle itself rounds to the even one of the two.
func xgboostThreshold(t float32) float64 {
	below, at := float64(math.Nextafter32(t, float32(math.Inf(-1)))), float64(t)
	// Where the next float would be, if there were one.
	if math.IsInf(below, -1) {
		below = -0x1p128
	}
	if math.IsInf(at, 1) {
		at = 0x1p128
	}
	middle := below + (at-below)/2
	if math.Float32bits(t)&1 == 0 {
		return math.Nextafter(middle, math.Inf(-1))
	}
	return middle
}
