package train

import (
	"errors"
	"fmt"
	"slices"
)

// Split says how days are cut into folds. A day counts when it has a usable row: a market that is closed at week-ends
// has five or six days a week, and "28 days" are 28 of those. But so many days may not be spread over more than
// [Calendar] days, and a model is not trained on what lies across a hole of more than 14 days.
type Split struct {
	// TrainDays is the most a model is trained on, the days right before its test; TestDays is what it is tested on;
	// StepDays is from one test to the next. All > 0, StepDays >= TestDays, so that no row is tested twice.
	TrainDays, TestDays, StepDays int
	// MinTestDays is the fewest days that a partial test needs to count, > 0: the last one, and one before a hole.
	MinTestDays int
	// MinFirstDays and MaxFirstDays bound the days before the first test, which are half of all days; > 0. Half as many, but
	// not fewer than MinFirstDays, are needed in every training window: tests begin again so many days after a hole.
	MinFirstDays, MaxFirstDays int
	// Purge is how many rows are left out at the end of a training window, >= 0: their labels look into the test.
	Purge int
}

// DefaultSplit trains on 28 days, tests on the next 7, and moves on by 7; a last test of at least 3 days counts, the
// first test comes after half of the days but not before 5 nor later than 14, and 15 rows are purged.
func DefaultSplit() Split {
	return Split{TrainDays: 28, TestDays: 7, StepDays: 7, MinTestDays: 3, MinFirstDays: 5, MaxFirstDays: 14, Purge: 15}
}

func (s Split) validate() error {
	for _, v := range []struct {
		name string
		days int
	}{
		{"train days", s.TrainDays},
		{"test days", s.TestDays},
		{"step days", s.StepDays},
		{"min test days", s.MinTestDays},
		{"min first days", s.MinFirstDays},
		{"max first days", s.MaxFirstDays},
	} {
		if v.days <= 0 {
			return fmt.Errorf("%s %d: want more than 0", v.name, v.days)
		}
	}
	if s.StepDays < s.TestDays {
		return fmt.Errorf("step of %d days with tests of %d: tests would overlap", s.StepDays, s.TestDays)
	}
	if s.MinTestDays > s.TestDays {
		return fmt.Errorf("min test days %d with tests of %d: no test would count", s.MinTestDays, s.TestDays)
	}
	if s.Purge < 0 {
		return fmt.Errorf("purge %d rows: want 0 or more", s.Purge)
	}
	return nil
}

// Calendar is how many calendar days a number of days with rows may be spread over: eight for five, which is a market that
// trades five days a week, in any seven days of trading.
func Calendar(days int) int { return days * 8 / 5 }

// Window is one fold: UTC days since 1970-01-01, from included, to not.
type Window struct {
	TrainFrom, TrainTo, TestFrom, TestTo int
}

// ErrTooFewDays is the error of data that is too short for a single fold.
var ErrTooFewDays = errors.New("too few days for one fold")

// Folds cuts days, ascending and distinct, into walk-forward folds, oldest first. With fewer than 28 days before a
// test, training takes all there are. It fails when the split makes no sense, or with [ErrTooFewDays].
func Folds(days []int, s Split) ([]Window, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
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
