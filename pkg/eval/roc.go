package eval

// Point is one point of an ROC curve.
type Point struct {
	// Threshold: rows with a score at or above it are called positive. The first point calls none positive; its
	// threshold is 1 above the highest possible score.
	Threshold float64 `json:"threshold"`
	// FalsePositiveRate and TruePositiveRate are the shares of negatives and of positives called positive, in [0,1].
	FalsePositiveRate float64 `json:"fpr"`
	TruePositiveRate  float64 `json:"tpr"`
}

// ROC returns the curve from (0,0) to (1,1), ascending, with one point per distinct score; nil without both classes.
// The trapezoidal area under it is [AUC].
func ROC(scores []float64, labels []bool) []Point {
	sameLength(scores, labels)
	p := positives(labels)
	n := len(labels) - p
	if p == 0 || n == 0 {
		return nil
	}
	r := rank(scores)
	curve := make([]Point, 1, len(r.ends)+1)
	curve[0].Threshold = 2
	start, hits, alarms := int32(0), 0, 0
	for _, end := range r.ends {
		for _, i := range r.order[start:end] {
			if labels[i] {
				hits++
			} else {
				alarms++
			}
		}
		curve = append(curve, Point{
			Threshold:         scores[r.order[start]],
			FalsePositiveRate: float64(alarms) / float64(n),
			TruePositiveRate:  float64(hits) / float64(p),
		})
		start = end
	}
	return curve
}

// Thin returns at most limit points of a curve, about evenly spaced and including both ends: enough to draw it. limit
// is at least 2.
func Thin(curve []Point, limit int) []Point {
	if len(curve) <= limit {
		return curve
	}
	thin := make([]Point, limit)
	for i := range thin {
		thin[i] = curve[i*(len(curve)-1)/(limit-1)]
	}
	return thin
}
