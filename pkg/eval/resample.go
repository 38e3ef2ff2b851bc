package eval

import (
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// resampler computes the counts of samples in which whole blocks of rows occur several times or not at all. It does not
// read the rows again: it sums the pairs of an AUC by pairs of blocks, and finds the cut between checkpoints.
//
// All its sums are multiples of one half, which are exact below 2^52, so their order does not matter: the counts equal,
// bit for bit, the counts of the sample written out row by row, on any number of cores.
type resampler struct {
	// blocks is the number of blocks.
	blocks int
	// rows are in descending order of score: the block times 4, plus 2 if the next row has another score, plus 1 for a
	// positive.
	rows []uint32
	// at are positions in rows between groups of equal score, ascending. For each position, seen and hits hold one value
	// per block: its rows and positives before the position. The last position covers the whole sample.
	at         []int
	seen, hits []float64
}

const (
	positiveRow = 1 << iota
	lastOfGroup
	rowsBlock // the unit of the block's number
)

// newResampler takes the block of each row, numbered from 0 to blocks-1.
func newResampler(r *ranked, block []int32, blocks int) *resampler {
	s := &resampler{blocks: blocks, rows: make([]uint32, 0, len(block))}
	// With this distance, the checkpoints take about as much memory as the rows, and a search takes about as long as a
	// walk from one checkpoint to the next.
	distance := 64 + 4*blocks
	seen, hits := make([]float64, blocks), make([]float64, blocks)
	start := 0
	for g, end := range r.ends {
		if g == 0 || start-s.at[len(s.at)-1] >= distance {
			s.checkpoint(seen, hits)
		}
		for ; start < int(end); start++ {
			i := r.order[start]
			row := uint32(block[i]) * rowsBlock
			seen[block[i]]++
			if r.Labels[i] {
				row |= positiveRow
				hits[block[i]]++
			}
			if start+1 == int(end) {
				row |= lastOfGroup
			}
			s.rows = append(s.rows, row)
		}
	}
	s.checkpoint(seen, hits)
	return s
}

func (s *resampler) checkpoint(seen, hits []float64) {
	s.at = append(s.at, len(s.rows))
	s.seen, s.hits = append(s.seen, seen...), append(s.hits, hits...)
}

// counts returns the counts of the samples: block b occurs times[i][b] times in sample i.
func (s *resampler) counts(share float64, times [][]float64) []counts {
	c := make([]counts, len(times))
	// With a few rows per block, reading the rows is cheaper than the table of pairs.
	sparse := len(s.rows) < s.blocks*s.blocks/4
	parallel(len(times), func(i int) { c[i] = s.walk(share, times[i], sparse) })
	if sparse {
		return c
	}
	// Compute the table of pairs in parts: for years of days, the whole table would take hundreds of megabytes.
	const part = 64
	var mu sync.Mutex
	parallel((s.blocks+part-1)/part, func(p int) {
		pairs := s.pairs(p*part, min((p+1)*part, s.blocks), times)
		mu.Lock()
		defer mu.Unlock()
		for i, v := range pairs {
			c[i].pairs += v / 2
		}
	})
	return c
}

// walk returns the counts of one sample. If all is set, it walks down all rows and counts the pairs too. Otherwise it
// reads only the rows from the checkpoint before the cut to the cut.
func (s *resampler) walk(share float64, times []float64, all bool) counts {
	at := func(of []float64, i int) float64 { return dot(times, of[i*s.blocks:(i+1)*s.blocks]) }
	end := len(s.at) - 1
	rows := at(s.seen, end)
	c := counts{k: topCount(rows, share), positives: at(s.hits, end)}
	c.negatives = rows - c.positives
	from := 0
	if !all {
		from = sort.Search(end, func(i int) bool { return at(s.seen, i) > c.k }) - 1
	}
	c.top = at(s.hits, from)
	left, below := c.k-at(s.seen, from), c.negatives
	var pos, size float64
	for _, row := range s.rows[s.at[from]:] {
		if left <= 0 && !all {
			break
		}
		w := times[row/rowsBlock]
		size += w
		pos += w * float64(row&positiveRow)
		if row&lastOfGroup != 0 {
			if all {
				neg := size - pos
				below -= neg
				c.pairs += pos * (below + neg/2)
			}
			if size > 0 && left > 0 {
				take := min(left, size)
				c.top += pos * (take / size)
				left -= take
			}
			pos, size = 0, 0
		}
	}
	return c
}

// pairs returns, per sample, twice the number of pairs in the right order whose positive is in a block from first to
// last-1; a tie counts once.
func (s *resampler) pairs(first, last int, times [][]float64) []float64 {
	k := s.blocks
	// worth is twice the negatives of each block below the current group, plus those in it.
	end := (len(s.at) - 1) * k
	worth := make([]float64, k)
	for b := range worth {
		worth[b] = 2 * (s.seen[end+b] - s.hits[end+b])
	}
	table := make([]float64, (last-first)*k)
	start := 0
	for i, row := range s.rows {
		if row&positiveRow == 0 {
			worth[row/rowsBlock]--
		}
		if row&lastOfGroup == 0 {
			continue
		}
		group := s.rows[start : i+1]
		start = i + 1
		for _, row := range group {
			if b := int(row / rowsBlock); row&positiveRow != 0 && b >= first && b < last {
				won := table[(b-first)*k : (b-first+1)*k]
				for j, w := range worth {
					won[j] += w
				}
			}
		}
		for _, row := range group {
			if row&positiveRow == 0 {
				worth[row/rowsBlock]--
			}
		}
	}
	pairs := make([]float64, len(times))
	for i, w := range times {
		for b := first; b < last; b++ {
			if w[b] != 0 {
				pairs[i] += w[b] * dot(w, table[(b-first)*k:(b-first+1)*k])
			}
		}
	}
	return pairs
}

// dot returns the dot product of two vectors of integers. It keeps four partial sums, since the order does not matter.
func dot(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	for ; len(a) >= 4 && len(b) >= 4; a, b = a[4:], b[4:] {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
	}
	for i, v := range a {
		s0 += v * b[i]
	}
	return s0 + s1 + s2 + s3
}

// parallel calls do with 0 to n-1 on all cores and waits for them.
func parallel(n int, do func(i int)) {
	var taken atomic.Int64
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(taken.Add(1)) - 1; i < n; i = int(taken.Add(1)) - 1 {
				do(i)
			}
		})
	}
	workers.Wait()
}

// numbered numbers the days from 0 in ascending order. It returns the number of each row's day, and how many days there
// are.
func numbered(days []int) (block []int32, blocks int) {
	distinct := slices.Compact(slices.Sorted(slices.Values(days)))
	number := make(map[int]int32, len(distinct))
	for i, d := range distinct {
		number[d] = int32(i)
	}
	block = make([]int32, len(days))
	for i, d := range days {
		block[i] = number[d]
	}
	return block, len(distinct)
}
