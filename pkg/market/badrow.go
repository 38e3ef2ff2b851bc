package market

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
)

// Why a row is left out: the keys of Series.Dropped. All but ReasonNoQuote make a row a bad one, which counts against
// ReadOptions.MaxBadRows.
const (
	ReasonColumns   = "columns"    // wrong number of columns, or quotes that do not close
	ReasonNumber    = "number"     // not a finite number
	ReasonPrice     = "price"      // a price that is not between 1e-12 and 1e12, or a negative size or volume
	ReasonRange     = "range"      // high below low, or open or close outside them
	ReasonCrossed   = "crossed"    // bid above ask
	ReasonTime      = "time"       // not a time, or not of the day of the file
	ReasonMinute    = "minute"     // the time of a bar is not on a minute
	ReasonBackwards = "backwards"  // the time is before that of the row before
	ReasonRepeated  = "repeated"   // another row for the same minute
	ReasonDuplicate = "duplicate"  // the row before again, byte for byte
	ReasonOneSide   = "one side"   // a minute that only the bid or only the ask file has
	ReasonSymbol    = "instrument" // a row of another instrument
	ReasonStray     = "stray"      // a few rows far from all others in time
	ReasonNoQuote   = "no quote"   // trades of a minute without a quote: no bad row, but not a bar either
)

// RowError is a row that cannot be used. Its text says where it is, what is there and what was expected, for example
//
//	bars.csv:17: column "close": "12,5" is not a number
type RowError struct {
	// File is the path, Line counts from 1.
	File string
	Line int
	// Column is the name of the column, empty when it is the row as a whole that is wrong.
	Column string
	// Text is what was found there, cut to 60 bytes.
	Text string
	// Reason is one of the Reason constants.
	Reason string
	// Problem completes the sentence: "is not a number".
	Problem string
}

func (e *RowError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem)
	}
	return fmt.Sprintf("%s:%d: column %q: %q %s", e.File, e.Line, e.Column, e.Text, e.Problem)
}

// badCell is a RowError about one cell; where it is gets filled in by the reader of the file.
func badCell(reason, column, text, problem string) *RowError {
	const most = 60
	if len(text) > most {
		text = text[:most] + "..."
	}
	return &RowError{Reason: reason, Column: column, Text: text, Problem: problem}
}

// badRow is a RowError about a row as a whole.
func badRow(reason, problem string) *RowError { return &RowError{Reason: reason, Problem: problem} }

// badRows counts what was left out.
type badRows struct {
	allowed int
	found   int
	first   *RowError
	reasons map[string]int
}

// add counts a bad row. It returns an error when the row is one too many: the row itself when none was allowed, else one
// that says how many there were and names the first.
func (b *badRows) add(e *RowError) error {
	if b.found++; b.first == nil {
		b.first = e
	}
	b.drop(e.Reason, 1)
	switch {
	case b.found <= b.allowed:
		return nil
	case b.allowed == 0:
		return e
	}
	return fmt.Errorf("%d bad rows, %d allowed; the first: %w", b.found, b.allowed, b.first)
}

func (b *badRows) drop(reason string, n int) {
	if n == 0 {
		return
	}
	if b.reasons == nil {
		b.reasons = map[string]int{}
	}
	b.reasons[reason] += n
}

func (b *badRows) dropped() map[string]int { return maps.Clone(b.reasons) }

// located fills in where a RowError is. Other errors pass.
func located(err error, file string, line int) error {
	var row *RowError
	if errors.As(err, &row) && row.File == "" {
		row.File, row.Line = file, line
	}
	return err
}

// number formats a value for a message the way it is written in a file.
func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
