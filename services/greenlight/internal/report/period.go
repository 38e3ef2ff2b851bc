package report

import (
	"fmt"
	"time"
)

// Period is a UTC day or an ISO week.
type Period struct {
	// Name is "2026-03-01" or "2026-W09".
	Name string `json:"period"`
	// Start and End, exclusive, are UTC midnights.
	Start time.Time `json:"start_time"`
	End   time.Time `json:"end_time"`
}

const day = 24 * time.Hour

// Day returns the UTC day of t.
func Day(t time.Time) Period {
	start := t.UTC().Truncate(day)
	return Period{start.Format(time.DateOnly), start, start.Add(day)}
}

// Week returns the ISO week of t, Monday to Sunday in UTC.
func Week(t time.Time) Period {
	start := t.UTC().Truncate(day)
	start = start.AddDate(0, 0, -(int(start.Weekday())+6)%7)
	year, week := start.ISOWeek()
	return Period{fmt.Sprintf("%d-W%02d", year, week), start, start.Add(7 * day)}
}

// slack is how far a sample may be from the end of its period.
const slack = time.Minute

// has reports whether an interval belongs to the period: its middle is in the period, and it exceeds the period by at most the
// slack. An interval never belongs to two days. An interval across midnight may belong to none.
func (p Period) has(from, to time.Time) bool {
	middle := from.Add(to.Sub(from) / 2)
	return !middle.Before(p.Start) && middle.Before(p.End) && !from.Before(p.Start.Add(-slack)) && !to.After(p.End.Add(slack))
}

// within returns how much of the interval is in the period.
func (p Period) within(from, to time.Time) time.Duration {
	if from.Before(p.Start) {
		from = p.Start
	}
	if to.After(p.End) {
		to = p.End
	}
	return max(0, to.Sub(from))
}
