package eval

// PrecisionAtShare returns the precision of the k = ceil(share n) rows with the highest scores. NaN without rows.
func PrecisionAtShare(scores []float64, labels []bool, share float64) float64 {
	return rank(scores).count(labels, share).precision()
}

// RecallAtShare returns the recall of the same rows. NaN without positives.
func RecallAtShare(scores []float64, labels []bool, share float64) float64 {
	return rank(scores).count(labels, share).recall()
}

// NewDeLong computes the AUC of scores with its interval at the given level, in (0,1). It needs two rows of each class
// ([ErrOneClass]).
func NewDeLong(scores []float64, labels []bool, level float64) (*DeLong, error) {
	sameLength(scores, labels)
	if err := deLongUsable(labels, level); err != nil {
		return nil, err
	}
	return rank(scores).deLong(labels, level), nil
}

// NewDeLongTest tests a against b, scores of the same rows, with an interval at the given level, in (0,1). It needs two
// rows of each class ([ErrOneClass]), and may return [ErrNoVariance]. Scorers that rank all rows alike have Z 0 and
// PValue 1.
func NewDeLongTest(a, b []float64, labels []bool, level float64) (*DeLongTest, error) {
	sameLength(a, labels)
	sameLength(b, labels)
	return deLongTest(rank(a), rank(b), labels, level)
}
