package train_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/train"
)

func days(from, to int) []int {
	var d []int
	for i := from; i < to; i++ {
		d = append(d, i)
	}
	return d
}

// weekdays returns the days of the range without the last two of every seven.
func weekdays(from, to int) []int {
	return slices.DeleteFunc(days(from, to), func(d int) bool { return d%7 >= 5 })
}

func TestFolds(t *testing.T) {
	tests := []struct {
		name string
		days []int
		want []train.Window
	}{
		{
			"first test in the middle of few days", days(0, 12),
			[]train.Window{{0, 6, 6, 12}},
		},
		{
			"first test never before five days", days(0, 8),
			[]train.Window{{0, 5, 5, 8}},
		},
		{
			"first test after fourteen days, training grows to 28", days(100, 142),
			[]train.Window{{100, 114, 114, 121}, {100, 121, 121, 128}, {100, 128, 128, 135}, {107, 135, 135, 142}},
		},
		{
			"last test of three days counts", days(0, 31),
			[]train.Window{{0, 14, 14, 21}, {0, 21, 21, 28}, {0, 28, 28, 31}},
		},
		{
			"last test of two days does not", days(0, 30),
			[]train.Window{{0, 14, 14, 21}, {0, 21, 21, 28}},
		},
		{
			"days without rows are not counted",
			[]int{0, 1, 2, 3, 4, 7, 8, 9, 10, 11},
			[]train.Window{{0, 7, 7, 12}},
		},
		{
			"seven trading days are a test, across weekends", weekdays(0, 49),
			[]train.Window{{0, 18, 18, 29}, {0, 29, 29, 38}, {0, 38, 38, 47}},
		},
		{
			"no fold spans a year without data", slices.Concat(days(0, 18), days(383, 400)),
			[]train.Window{{0, 14, 14, 18}, {383, 390, 390, 397}, {383, 397, 397, 400}},
		},
		{
			"a stray day a century later is not a test", slices.Concat(days(0, 28), []int{60_000}),
			[]train.Window{{0, 14, 14, 21}, {0, 21, 21, 28}},
		},
		{
			"two days before a hole are not a test", slices.Concat(days(0, 23), days(43, 63)),
			[]train.Window{{0, 14, 14, 21}, {43, 50, 50, 57}, {43, 57, 57, 63}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := train.Folds(tt.days, train.DefaultSplit())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// For any number of days, no fold is trained on its test days, and no day is tested twice.
func TestFoldsNeverLookAhead(t *testing.T) {
	for n := range 200 {
		folds, err := train.Folds(days(0, n), train.DefaultSplit())
		if errors.Is(err, train.ErrTooFewDays) && n < 8 {
			continue
		}
		if err != nil {
			t.Fatalf("%d days: %v", n, err)
		}
		tested := 0
		for _, f := range folds {
			if f.TrainTo > f.TestFrom || f.TestFrom < tested || f.TestTo <= f.TestFrom || f.TestTo > n {
				t.Errorf("%d days: fold %+v after a test until %d", n, f, tested)
			}
			if got := f.TrainTo - f.TrainFrom; got < 1 || got > 28 {
				t.Errorf("%d days: fold %+v trains on %d days", n, f, got)
			}
			tested = f.TestTo
		}
		if n-tested >= 3 {
			t.Errorf("%d days: the last test ends at %d", n, tested)
		}
	}
}

func TestFoldsErrors(t *testing.T) {
	tests := []struct {
		name    string
		days    []int
		mention string
	}{
		{"no days", nil, "0 days"},
		{"too few days", days(0, 7), "7 days"},
		{"descending days", []int{2, 1}, "day 1 after day 2"},
		{"repeated days", []int{1, 1}, "day 1 after day 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := train.Folds(tt.days, train.DefaultSplit())
			if err == nil || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want an error that mentions %q", err, tt.mention)
			}
		})
	}
}

// The fewest days of rows for one fold, and for the 10 test days that an offline evaluation needs to pass. docs/quant.md and the
// hint of greenlight train name both.
func TestFewestDays(t *testing.T) {
	for n, want := range map[int]int{7: 0, 8: 3, 18: 7, 19: 10} {
		folds, err := train.Folds(days(0, n), train.DefaultSplit())
		if err != nil && !errors.Is(err, train.ErrTooFewDays) {
			t.Fatal(err)
		}
		got := 0
		for _, f := range folds {
			got += f.TestTo - f.TestFrom
		}
		if got != want {
			t.Errorf("%d days: %d test days, want %d", n, got, want)
		}
	}
}
