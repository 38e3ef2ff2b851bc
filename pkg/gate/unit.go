package gate

import (
	"cmp"
	"math"
	"strconv"
)

// Unit is the unit of a value, and determines how it is printed.
type Unit string

// The units of the SLOs.
const (
	// Score is a number without a unit, shown with three decimals: 0.863.
	Score Unit = ""
	// Ratio is stored as a fraction in [0,1] and shown as percent: 97.3 %.
	Ratio Unit = "ratio"
	// Millis is milliseconds: 4.2 ms, below one 0.042 ms.
	Millis Unit = "ms"
	// Count is a whole number of things: 12.
	Count Unit = "count"
)

// Format prints the value with its unit.
func (u Unit) Format(value float64) string { return u.decimals(value, u.usual(value)) }

// maxExtraDecimals ends the search in against; smaller differences are shown as equal.
const maxExtraDecimals = 6

// against formats value with enough decimals that the rounded number compares with the threshold as value does.
func (u Unit) against(value, threshold float64) string {
	want := cmp.Compare(tidy(u.scale(value)), tidy(u.scale(threshold)))
	usual := u.usual(value)
	for extra := range maxExtraDecimals {
		rounded, err := strconv.ParseFloat(strconv.FormatFloat(u.scale(value), 'f', usual+extra, 64), 64)
		if err == nil && cmp.Compare(rounded, tidy(u.scale(threshold))) == want {
			return u.decimals(value, usual+extra)
		}
	}
	return u.decimals(value, usual)
}

// exact formats a threshold as it was written, with no more digits than it has.
func (u Unit) exact(value float64) string {
	return strconv.FormatFloat(tidy(u.scale(value)), 'f', -1, 64) + u.suffix()
}

// usual returns the usual number of decimals for the value.
func (u Unit) usual(value float64) int {
	switch {
	case u == Score, u == Millis && math.Abs(value) < 1:
		return 3
	case u == Ratio && (value > 0 && value < 0.01 || value > 0.99 && value < 1):
		return 2 // one failure in a thousand must not read as none
	case u == Count, u == Minutes:
		return 0
	default:
		return 1
	}
}

func (u Unit) decimals(value float64, n int) string {
	return strconv.FormatFloat(u.scale(value), 'f', n, 64) + u.suffix()
}

func (u Unit) scale(value float64) float64 {
	if u == Ratio {
		return value * 100
	}
	return value
}

func (u Unit) suffix() string {
	switch u {
	case Score, Count:
		return ""
	case Ratio:
		return " %"
	default:
		return " " + string(u)
	}
}

// tidy removes the noise of binary fractions (0.07 * 100 is 7.000000000000001).
func tidy(value float64) float64 {
	t, err := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 12, 64), 64)
	if err != nil {
		return value
	}
	return t
}
