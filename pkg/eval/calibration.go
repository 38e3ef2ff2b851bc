package eval

import "math"

// Bins is the number of equal-width bins of [Reliability] and [ECE].
const Bins = 10

// leastProbability keeps the log loss finite where a score is 0 or 1.
const leastProbability = 1e-15

// Brier returns the mean squared difference of score and outcome, in [0,1]; NaN without rows.
//
// G. W. Brier (1950), "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78.
func Brier(scores []float64, labels []bool) float64 {
	sameLength(scores, labels)
	sum := 0.0
	for i, s := range scores {
		sum += squared(s, labels[i])
	}
	return sum / float64(len(scores))
}

func squared(score float64, label bool) float64 {
	d := score - unit(label)
	return d * d
}

// LogLoss returns the mean of -ln(probability assigned to the outcome), in nats, >= 0. Scores are clamped to [1e-15,
// 1 - 1e-15]. NaN without rows.
func LogLoss(scores []float64, labels []bool) float64 {
	sameLength(scores, labels)
	sum := 0.0
	for i, s := range scores {
		sum += surprise(s, labels[i])
	}
	return sum / float64(len(scores))
}

func surprise(score float64, label bool) float64 {
	p := max(leastProbability, min(1-leastProbability, score))
	if label {
		return -math.Log(p)
	}
	return -math.Log1p(-p)
}

// Bin is one bin of scores, [Low, High), the last one closed.
type Bin struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// N is the number of rows in the bin.
	N int `json:"n"`
	// MeanScore and Rate are the mean score and the share of positives in the bin, in [0,1]; 0 if N is 0.
	MeanScore float64 `json:"mean_score"`
	Rate      float64 `json:"rate"`
}

// Reliability divides [0,1] into [Bins] bins of equal width.
func Reliability(scores []float64, labels []bool) []Bin {
	sameLength(scores, labels)
	bins := make([]Bin, Bins)
	for i := range bins {
		bins[i].Low, bins[i].High = float64(i)/Bins, float64(i+1)/Bins
	}
	for i, s := range scores {
		b := &bins[binOf(s)]
		b.N++
		b.MeanScore += s
		b.Rate += unit(labels[i])
	}
	for i := range bins {
		if n := float64(bins[i].N); n > 0 {
			bins[i].MeanScore /= n
			bins[i].Rate /= n
		}
	}
	return bins
}

func binOf(score float64) int { return max(0, min(Bins-1, int(score*Bins))) }

// ECE returns the expected calibration error: the mean over rows of |mean score - rate| of the row's bin in
// [Reliability], in [0,1]; NaN without rows.
func ECE(scores []float64, labels []bool) float64 {
	return ece(Reliability(scores, labels))
}

func ece(bins []Bin) float64 {
	n, sum := 0, 0.0
	for _, b := range bins {
		n += b.N
		sum += float64(b.N) * math.Abs(b.MeanScore-b.Rate)
	}
	return sum / float64(n)
}
