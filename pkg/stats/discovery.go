package stats

import "slices"

// BenjaminiHochberg returns the adjusted p-values of a family of tests, in their order: to call those at or below a level
// is to be wrong, on average, about at most that share of them.
//
// Y. Benjamini and Y. Hochberg (1995), "Controlling the false discovery rate: a practical and powerful approach to
// multiple testing", J. Royal Statistical Society B 57.
func BenjaminiHochberg(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	adjusted := make([]float64, len(p))
	least := 1.0
	for rank := len(p); rank > 0; rank-- {
		i := order[rank-1]
		least = min(least, p[i]*float64(len(p))/float64(rank))
		adjusted[i] = least
	}
	return adjusted
}
