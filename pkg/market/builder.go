package market

// BarBuilder makes one-minute bars from quotes as they arrive. The zero value is ready for use. It is not safe for
// concurrent use.
//
// A quote at time t belongs to the minute that contains t. The first mid is the open; the last gives close, bid and
// ask. A minute without a quote gives no bar: the book's state is known, but readers of the bars must see that nothing
// was observed.
type BarBuilder struct {
	bar   Bar
	begun bool
	// early is the volume of trades in a minute before its first quote.
	early      float64
	earlyStart int64
}

// Add takes the next quote, which must have positive, finite prices. If the quote starts a later minute, Add returns
// the bar that it completes. A quote of an earlier minute is ignored.
func (b *BarBuilder) Add(q Quote) (Bar, bool) {
	start := minuteOf(q.Time)
	mid := (q.Bid + q.Ask) / 2
	switch {
	case b.begun && start < b.bar.Start:
		return Bar{}, false
	case b.begun && start == b.bar.Start:
		b.bar.High, b.bar.Low = max(b.bar.High, mid), min(b.bar.Low, mid)
		b.bar.Close, b.bar.Bid, b.bar.Ask = mid, q.Bid, q.Ask
		return Bar{}, false
	}
	done, ok := b.bar, b.begun
	b.bar = Bar{Start: start, Open: mid, High: mid, Low: mid, Close: mid, Bid: q.Bid, Ask: q.Ask}
	b.begun = true
	if b.earlyStart == start {
		b.bar.Volume, b.early = b.early, 0
	}
	return done, ok
}

// Trade adds the volume of a trade at a time (Unix milliseconds UTC) to its minute. Volume in an earlier minute, or in
// one that never gets a quote, is left out.
func (b *BarBuilder) Trade(time int64, volume float64) {
	start := minuteOf(time)
	switch {
	case b.begun && start == b.bar.Start:
		b.bar.Volume += volume
	case b.begun && start < b.bar.Start:
	case start == b.earlyStart:
		b.early += volume
	default:
		b.early, b.earlyStart = volume, start
	}
}

// Flush returns the bar of the current minute, if there is one, complete or not, and resets the builder.
func (b *BarBuilder) Flush() (Bar, bool) {
	bar, ok := b.bar, b.begun
	*b = BarBuilder{}
	return bar, ok
}

// Current returns the minute that quotes have begun and no later quote has completed.
func (b *BarBuilder) Current() (Bar, bool) { return b.bar, b.begun }

// Resume continues with a minute that Current returned, from this builder or another. Trade volumes before the first
// quote of a minute are not carried over.
func (b *BarBuilder) Resume(bar Bar) { *b = BarBuilder{bar: bar, begun: true} }

// Prices outside these limits are treated as errors. They leave room for every instrument, and keep sums, ratios and
// logarithms of prices finite.
const (
	minPrice = 1e-12
	maxPrice = 1e12
)

// Times before 1973 or after 2200 are treated as errors.
const (
	minTimeMS = 1e8*1000 + 20_000 // a whole minute, so that no bar of a valid quote begins before
	maxTimeMS = 7258118400 * 1000
)

// IsPrice reports whether x can be a price: 1e-12 to 1e12, as in files.
func IsPrice(x float64) bool { return x >= minPrice && x <= maxPrice }

// IsTime reports whether ms can be a time in Unix milliseconds: 1973 to 2199, as in files. An
// epoch in seconds, microseconds or nanoseconds cannot.
func IsTime(ms int64) bool { return ms >= minTimeMS && ms <= maxTimeMS }

// minuteOf returns the start of the minute that contains ms.
func minuteOf(ms int64) int64 {
	start := ms - ms%MinuteMS
	if start > ms {
		start -= MinuteMS
	}
	return start
}
