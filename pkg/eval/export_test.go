package eval

// PrecisionAtShare returns the precision of the k = ceil(share n) rows with the highest scores. NaN without rows.
func PrecisionAtShare(scores []float64, labels []bool, share float64) float64 {
	return rank(scores).count(labels, share).precision()
}

// RecallAtShare returns the recall of the same rows. NaN without positives.
func RecallAtShare(scores []float64, labels []bool, share float64) float64 {
	return rank(scores).count(labels, share).recall()
}
