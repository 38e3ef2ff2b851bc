package outcome

import "math"

// Feed gives a join the minutes of a symbol from a file, in step with its rows.
type Feed struct {
	join   *Join
	symbol string
	// ends are the ends of the grid minutes in Unix milliseconds, ascending; answers their labels.
	ends    []int64
	answers []Answer
	// next is the next minute, due the one whose label is known then.
	next, due int
}

// NewFeed returns a feed of the symbol's grid minutes: their ends in Unix milliseconds, ascending, and the label of each.
func NewFeed(j *Join, symbol string, ends []int64, answers []Answer) *Feed {
	return &Feed{join: j, symbol: symbol, ends: ends, answers: answers}
}

// Add gives the join all minutes up to the row's time, and the row. Rows must come in time order, give or take the grace.
func (f *Feed) Add(row *Row) Label {
	f.until(row.Time)
	return f.join.Add(row)
}

// Finish gives the join the rest of the minutes. Rows after the last closed block stay pending.
func (f *Feed) Finish() { f.until(math.MaxInt64) }

func (f *Feed) until(t int64) {
	for ; f.next < len(f.ends) && f.ends[f.next] <= t; f.next++ {
		end, y := f.ends[f.next], Unknown
		for f.due < f.next && f.ends[f.due] < end-f.join.horizon {
			f.due++
		}
		if f.ends[f.due] == end-f.join.horizon {
			y = f.answers[f.due]
		}
		f.join.Minute(f.symbol, end, y)
	}
}
