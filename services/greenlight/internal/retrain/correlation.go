package retrain

import (
	"math"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Correlation is the matrix of Pearson correlations of the features.
type Correlation struct {
	Features []string `json:"features"`
	// Matrix is in the order of Features. An entry is null if one of the two features is constant.
	Matrix [][]*float64 `json:"matrix"`
	// Flagged lists the pairs with an absolute correlation above 0.95.
	Flagged []Pair `json:"flagged"`
}

// Pair is two features and their correlation.
type Pair struct {
	A string  `json:"a"`
	B string  `json:"b"`
	R float64 `json:"r"`
}

func newCorrelation(names []string, columns [][]float64) Correlation {
	c := Correlation{Features: names, Matrix: make([][]*float64, len(names)), Flagged: []Pair{}}
	for i, row := range stats.Correlation(columns...) {
		c.Matrix[i] = make([]*float64, len(row))
		for j, r := range row {
			if math.IsNaN(r) {
				continue
			}
			c.Matrix[i][j] = &r
			if j < i && math.Abs(r) > redundant {
				c.Flagged = append(c.Flagged, Pair{names[j], names[i], r})
			}
		}
	}
	return c
}
