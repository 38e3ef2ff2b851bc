package marketfile

import (
	"math"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// parsePrice reads a price in the file's own unit.
func parsePrice(column, text string) (float64, error) {
	x, err := parseNumber(column, text)
	if err != nil {
		return 0, err
	}
	switch {
	case x <= 0:
		return 0, badCell(ReasonPrice, column, text, "is not a price: want more than 0")
	case !market.IsPrice(x):
		return 0, badCell(ReasonPrice, column, text, "is not a price: want 1e-12 to 1e12")
	}
	return x, nil
}

// parseSize reads a size or volume; an empty cell is 0 (unknown).
func parseSize(column, text string) (float64, error) {
	if strings.TrimSpace(text) == "" {
		return 0, nil
	}
	x, err := parseNumber(column, text)
	if err == nil && x < 0 {
		return 0, badCell(ReasonPrice, column, text, "is negative: want 0 or more")
	}
	return x, err
}

// parseNumber reads a finite decimal number. strconv accepts more than a data file should contain (hexadecimal,
// "infinity").
func parseNumber(column, text string) (float64, error) {
	t := strings.TrimSpace(text)
	x, err := strconv.ParseFloat(t, 64)
	switch {
	case err == nil && (math.IsNaN(x) || math.IsInf(x, 0)):
		return 0, badCell(ReasonNumber, column, text, "is not a finite number")
	case err != nil || strings.ContainsAny(t, "xX_"):
		return 0, badCell(ReasonNumber, column, text, "is not a number")
	}
	return x, nil
}

// checkRange checks Low <= Open, Close <= High.
func checkRange(b market.Bar, prefix string) error {
	switch {
	case b.High < b.Low:
		return badCell(ReasonRange, prefix+"high", number(b.High), "is below the low "+number(b.Low))
	case b.Open < b.Low || b.Open > b.High:
		return badCell(ReasonRange, prefix+"open", number(b.Open), "is outside low "+number(b.Low)+" to high "+number(b.High))
	case b.Close < b.Low || b.Close > b.High:
		return badCell(ReasonRange, prefix+"close", number(b.Close), "is outside low "+number(b.Low)+" to high "+number(b.High))
	}
	return nil
}

func isNumber(text string) bool {
	_, err := parseNumber("", text)
	return err == nil
}
