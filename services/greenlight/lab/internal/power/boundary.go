package power

import (
	"context"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// The naive rule is the one that the tests replace: a test designed for a single evaluation, but evaluated repeatedly. It is
// evaluated every 5 s, which at 10 shadows per second is every 50 shadows, and rejects at 5 %.
const (
	naiveSeconds   = 5
	naivePerSecond = 10
	naiveEvery     = naiveSeconds * naivePerSecond
	naiveLevel     = 0.05
)

// never is more failures than there are shadows.
const never = math.MaxInt

// boundaries hold, by number of shadows, the number of failures that aborts a run. The rules depend only on counts, so they
// are evaluated once per count, not for each shadow of each run.
type boundaries struct {
	test, threshold, naive []int
}

// newBoundaries evaluates the rules.
func newBoundaries(ctx context.Context, p gate.Policy, kind Kind, shadows int) (*boundaries, error) {
	b := &boundaries{naive: make([]int, shadows+1)}
	var err error
	if b.test, err = boundary(ctx, shadows, func(n, k int) bool { return len(p.AbortsByTest(kind.counts(p, n, k))) > 0 }); err != nil {
		return nil, err
	}
	if b.threshold, err = boundary(ctx, shadows, func(n, k int) bool { return len(p.AbortsByThreshold(kind.counts(p, n, k))) > 0 }); err != nil {
		return nil, err
	}
	k := 0
	for n := range b.naive {
		b.naive[n] = never
		if n > 0 && n%naiveEvery == 0 {
			for stats.BinomialAtLeast(uint64(k), uint64(n), kind.allowed(p)) > naiveLevel {
				k++
			}
			b.naive[n] = k
		}
	}
	return b, nil
}

// boundary returns, by number of shadows, the fewest failures at which the rule aborts. A rule that aborts at some number of
// failures must abort at all larger ones.
func boundary(ctx context.Context, shadows int, aborts func(n, k int) bool) ([]int, error) {
	least := make([]int, shadows+1)
	least[0] = never
	k := 0
	for n := 1; n <= shadows; n++ {
		if n%1000 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for k > 0 && aborts(n, k-1) { // a threshold applies only above its floor
			k--
		}
		for k <= n && !aborts(n, k) {
			k++
		}
		least[n] = k
		if k > n {
			least[n] = never
		}
	}
	return least, nil
}
