package market

// BarBuilder makes one-minute bars of quotes as they come. The zero value is ready for use. It is not safe for
// concurrent use.
//
// A quote of time t belongs to the minute that holds t; the mid of the first is the open, the last gives close, bid and
// ask. A minute without a quote gives no bar: the state of the book at its end is known, but that nothing was seen is
// something that the reader of the bars should learn.
type BarBuilder struct {
	bar   Bar
	begun bool
	// early is the volume of trades of a minute whose first quote has not come.
	early      float64
	earlyStart int64
}

// Add takes the next quote, which must have positive, finite prices. It returns the bar that the quote completes, if it
// is the first of a later minute. A quote of an earlier minute than the current is ignored.
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

// Trade adds the volume of a trade at a time (Unix milliseconds UTC) to its minute. The volume of a minute that never
// has a quote, and of an earlier minute than the current, is left out.
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

// Flush returns the bar of the current minute, if there is one, complete or not, and begins anew.
func (b *BarBuilder) Flush() (Bar, bool) {
	bar, ok := b.bar, b.begun
	*b = BarBuilder{}
	return bar, ok
}

// Current is the minute that quotes have begun and that no later quote has completed yet.
func (b *BarBuilder) Current() (Bar, bool) { return b.bar, b.begun }

// Resume goes on with a minute as Current returned it, of this builder or another. Volumes of trades that came before
// the first quote of a minute are not carried over.
func (b *BarBuilder) Resume(bar Bar) { *b = BarBuilder{bar: bar, begun: true} }

// IsPrice says whether x can be a price: 1e-12 to 1e12, as in the files that Read takes.
func IsPrice(x float64) bool { return x >= minPrice && x <= maxPrice }

// IsTime says whether ms can be a time in Unix milliseconds: 1973 to 2199, as in the files that Read takes. An epoch in
// seconds, microseconds or nanoseconds cannot.
func IsTime(ms int64) bool { return ms >= minTimeMS && ms <= maxTimeMS }

// minuteOf is the start of the minute that holds ms.
func minuteOf(ms int64) int64 {
	start := ms - ms%MinuteMS
	if start > ms {
		start -= MinuteMS
	}
	return start
}
