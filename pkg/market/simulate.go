package market

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
)

// SimulateOptions describe the simulated market. The zero value is the default market.
type SimulateOptions struct {
	// Seed determines every number. The same seed and options give the same quotes.
	Seed uint64
	// Days is the length in days of 24 hours, 1 to 3660. 0 means 42.
	Days int
	// Symbol is the instrument. Empty means "SIM-PERP".
	Symbol string
}

const (
	// startMS is the first instant: 2025-01-06 00:00 UTC, a Monday.
	startMS = 1_736_121_600_000
	// startPrice is the mid at the start, tickSize the price step.
	startPrice, tickSize = 50_000, 0.5
)

// Simulation is a simulated market. It stores no quotes: they are generated on demand, the same each time.
type Simulation struct {
	opts SimulateOptions
}

// Simulate prepares a market. It returns an error if an option is out of range.
//
// The market has the main stylised facts of real ones (Cont 2001): heavy tails, volatility clustering on two scales,
// clustered jumps, sessions, a spread that follows volatility, and bounce. See volatility.go for the processes and
// their sources. The direction of prices cannot be predicted; their volatility can, about as well as in real markets.
//
// The same options give bit-identical quotes on one platform, and on others as long as math.Exp and math.Log round
// alike. Prices are rounded to ticks, so a difference in the last bit is rarely visible.
func Simulate(opts SimulateOptions) (*Simulation, error) {
	opts.Days, opts.Symbol = cmp.Or(opts.Days, 42), cmp.Or(opts.Symbol, "SIM-PERP")
	if opts.Days < 1 || opts.Days > 3660 {
		return nil, fmt.Errorf("simulate: days %d: want 1 to 3660", opts.Days)
	}
	return &Simulation{opts: opts}, nil
}

// Symbol returns the instrument.
func (s *Simulation) Symbol() string { return s.opts.Symbol }

// Series returns the bars of exactly the quotes of Quotes. Volumes are 0: the simulation has no trades.
func (s *Simulation) Series() *Series {
	series := &Series{Symbol: s.opts.Symbol, Simulated: true, Bars: make([]Bar, 0, s.opts.Days*24*60)}
	var b BarBuilder
	for q := range s.Quotes() {
		if bar, ok := b.Add(q); ok {
			series.Bars = append(series.Bars, bar)
		}
	}
	if bar, ok := b.Flush(); ok {
		series.Bars = append(series.Bars, bar)
	}
	return series
}

// Quotes yields the quotes in time order: at least one a minute, four on average, more in busy times, and no two in the
// same millisecond.
func (s *Simulation) Quotes() iter.Seq[Quote] {
	return func(yield func(Quote) bool) {
		rng := rand.New(rand.NewPCG(s.opts.Seed, 0x677265656e6c6967)) // "greenlig"
		vol := newVolatility(rng)
		book := &book{rng: rng, price: math.Log(startPrice)}
		var gaps []float64
		for minute := range s.opts.Days * 24 * 60 {
			at := startMS + int64(minute)*MinuteMS
			state := vol.next(at)
			jump := vol.jump(state)
			gaps = spacings(rng, quotesAMinute(rng, state), gaps)
			passed, last := 0.0, at-1
			for i, gap := range gaps[:len(gaps)-1] {
				book.move(state.sigma, gap)
				if i == 0 {
					book.price += jump
				}
				passed += gap
				last = max(last+1, at+int64(passed*MinuteMS))
				if !yield(book.quote(last, state)) {
					return
				}
			}
			book.move(state.sigma, gaps[len(gaps)-1])
		}
	}
}

// quotesAMinute draws the number of quotes in a minute, 1 to 40: activity grows with volatility.
func quotesAMinute(rng *rand.Rand, state volState) int {
	mean := 3 * math.Exp(min(0.5*state.log, 2))
	n, limit, product := 1, math.Exp(-mean), rng.Float64()
	for product > limit && n < 40 {
		n, product = n+1, product*rng.Float64()
	}
	return n
}

// spacings draws the n+1 gaps between n instants that are uniform in a minute, as shares of it.
func spacings(rng *rand.Rand, n int, into []float64) []float64 {
	into = into[:0]
	sum := 0.0
	for range n + 1 {
		gap := rng.ExpFloat64()
		into, sum = append(into, gap), sum+gap
	}
	for i := range into {
		into[i] /= sum * (1 + 1e-3) // keeps the last instant within the minute, with room to separate 40 quotes
	}
	return into
}

// book is the top of the book around a price that follows a random walk.
type book struct {
	rng *rand.Rand
	// price is the log of the efficient price, noise the deviation of the mid from it, and spread the deviation of the
	// log spread from what volatility explains; both revert.
	price, noise, spread float64
}

const (
	// The spread at ordinary volatility, and its dependence on volatility: ln spread = ln spreadBP + 0.6 ln volatility
	// + noise. Inventory and information models predict wider spreads in volatile times, and measurements confirm them
	// (Bollerslev and Melvin 1994).
	spreadBP       = 1.2
	spreadResponse = 0.6
	// Both noises are AR(1) from quote to quote.
	spreadNoise, spreadPersistence = 0.22, 0.93
	bookNoise, bookPersistence     = 0.25, 0.70 // in spreads
)

// move moves the efficient price for a share of a minute.
func (b *book) move(sigmaBP, share float64) {
	b.price += float64(sigmaBP * 1e-4 * math.Sqrt(share) * b.rng.NormFloat64())
}

func (b *book) quote(at int64, state volState) Quote {
	b.spread = ar1(b.rng, b.spread, spreadPersistence, spreadNoise)
	b.noise = ar1(b.rng, b.noise, bookPersistence, bookNoise)
	widthBP := spreadBP * math.Exp(float64(spreadResponse*state.log)+b.spread)
	mid := math.Exp(b.price + float64(b.noise*widthBP*1e-4))
	half := mid * widthBP * 0.5e-4
	// Rounding outwards, like a market maker, keeps bid below ask.
	bid := max(1, math.Floor((mid-half)/tickSize))
	ask := max(bid+1, math.Ceil((mid+half)/tickSize))
	return Quote{Time: at, Bid: bid * tickSize, Ask: ask * tickSize, BidSize: b.size(), AskSize: b.size()}
}

// size draws a log-normal size in units of 0.001.
func (b *book) size() float64 {
	return math.Round(math.Exp(b.rng.NormFloat64())*1000+1) / 1000
}

// ar1 returns the next value of a process with the given standard deviation and autocorrelation. The conversions keep
// the compiler from fusing product and sum, which rounds differently on some platforms.
func ar1(rng *rand.Rand, x, persistence, sd float64) float64 {
	return float64(persistence*x) + float64(sd*math.Sqrt(1-float64(persistence*persistence))*rng.NormFloat64())
}
