package gate

import "math"

// HistogramQuantile is the q-quantile, q in (0,1), of observations that were counted in buckets with the given upper
// edges, ascending, and one more bucket for what lies above the last. Within a bucket it goes linearly from edge to edge,
// and above the last edge it is that edge, as Prometheus' histogram_quantile has it, so that both judge alike: a quantile
// is on the true side of any threshold that is an edge. It is NaN without observations.
func HistogramQuantile(q float64, edges []float64, counts []uint64) float64 {
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	if total == 0 || len(edges) == 0 || len(counts) != len(edges)+1 {
		return math.NaN()
	}
	rank, below := q*float64(total), 0.0
	for i, edge := range edges {
		n := float64(counts[i])
		if below+n >= rank && n > 0 {
			from := 0.0
			if i > 0 {
				from = edges[i-1]
			}
			return from + (edge-from)*(rank-below)/n
		}
		below += n
	}
	return edges[len(edges)-1]
}
