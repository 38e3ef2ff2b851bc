package train

import (
	"errors"
	"fmt"
	"slices"
)

// Split configures how days are cut into folds. A day counts if it has a usable row: a market that closes at weekends has
// five or six days a week, and "28 days" means 28 such days. They may span at most [Calendar] days, and no model is trained
// across a hole of more than 14 days.
type Split struct {
	// TrainDays is the largest number of training days, right before the test; TestDays is the length of a test;
	// StepDays is the distance between tests. All > 0, with StepDays >= TestDays, so that no row is tested twice.
	TrainDays, TestDays, StepDays int
	// MinTestDays is the minimum number of days for a partial test (the last one, or one before a hole) to count, > 0.
	MinTestDays int
	// MinFirstDays and MaxFirstDays bound the days before the first test, which are half of all days; > 0. Every
	// training window needs half as many days, but at least MinFirstDays: tests restart that many days after a hole.
	MinFirstDays, MaxFirstDays int
	// Purge is how many rows are dropped at the end of a training window, >= 0: their labels look into the test.
	Purge int
}

// DefaultSplit trains on 28 days, tests on the next 7, and moves on by 7. A last test of at least 3 days counts. The
// first test starts after half of the days, between 5 and 14, and 15 rows are purged.
func DefaultSplit() Split {
	return Split{TrainDays: 28, TestDays: 7, StepDays: 7, MinTestDays: 3, MinFirstDays: 5, MaxFirstDays: 14, Purge: 15}
}

// Calendar returns how many calendar days a number of days with rows may span: eight for five, because that is how far trading
// days can spread in a market that trades five days a week.
func Calendar(days int) int { return days * 8 / 5 }

// Window is one fold in UTC days since 1970-01-01; from is included, to is not.
type Window struct {
	TrainFrom, TrainTo, TestFrom, TestTo int
}

// ErrTooFewDays is returned for data that is too short for a single fold.
var ErrTooFewDays = errors.New("too few days for one fold")

// Folds cuts days, ascending and distinct, into walk-forward folds, oldest first. With fewer than 28 days before a
// test, training takes all of them. It returns an error for days in another order, or [ErrTooFewDays].
func Folds(days []int, s Split) ([]Window, error) {
	for i := 1; i < len(days); i++ {
		if days[i] <= days[i-1] {
			return nil, fmt.Errorf("day %d after day %d: want ascending days", days[i], days[i-1])
		}
	}
	var folds []Window
	first := min(s.MaxFirstDays, max(s.MinFirstDays, len(days)/2))
	at := func(day int) int { i, _ := slices.BinarySearch(days, day); return i }
	for test := first; test+s.MinTestDays <= len(days); {
		from := max(test-s.TrainDays, at(days[test]-Calendar(s.TrainDays)), 0)
		end := min(test+s.TestDays, len(days), at(days[test]+Calendar(s.TestDays)))
		for i := test; i > from; i-- {
			if days[i]-days[i-1] > spannedDays {
				from = i
			}
		}
		switch {
		case test-from < max(s.MinFirstDays, first/2):
			test++
			continue
		case end-test >= s.MinTestDays:
			folds = append(folds, Window{TrainFrom: days[from], TrainTo: days[test], TestFrom: days[test], TestTo: days[end-1] + 1})
		}
		if end < min(test+s.TestDays, len(days)) { // a hole
			test = end
		} else {
			test += s.StepDays
		}
	}
	if len(folds) == 0 {
		return nil, fmt.Errorf("%d days, want %d to train and %d to test: %w", len(days), first, s.MinTestDays, ErrTooFewDays)
	}
	return folds, nil
}
