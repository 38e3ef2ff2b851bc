// Package marketfile reads quotes and one-minute bars from the files of exchanges, brokers and archives. It recognises the
// layout of a file, and names what it cannot read with file, line and column.
package marketfile

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
)

// Reasons for leaving a row out: the keys of Series.Dropped. All except ReasonNoQuote make a row bad, which counts
// against Options.MaxBadRows.
const (
	ReasonColumns   = "columns"    // wrong number of columns, or unbalanced quotation marks
	ReasonNumber    = "number"     // not a finite number
	ReasonPrice     = "price"      // a price that is not between 1e-12 and 1e12, or a negative size or volume
	ReasonRange     = "range"      // high below low, or open or close outside them
	ReasonCrossed   = "crossed"    // bid above ask
	ReasonTime      = "time"       // not a time, or not on the file's day
	ReasonMinute    = "minute"     // a bar's time is not on a minute
	ReasonBackwards = "backwards"  // the time is before the previous row's
	ReasonRepeated  = "repeated"   // another row for the same minute
	ReasonDuplicate = "duplicate"  // repeats the previous row byte for byte
	ReasonOneSide   = "one side"   // a minute that only the bid or only the ask file has
	ReasonSymbol    = "instrument" // a row of another instrument
	ReasonStray     = "stray"      // a few rows far from all others in time
	ReasonNoQuote   = "no quote"   // trades in a minute without a quote: neither a bad row nor a bar
)

// RowError is a row that cannot be used. Its text names the position, what was found and what was expected, for example
//
//	bars.csv:17: column "close": "12,5" is not a number
type RowError struct {
	// File is the path, Line counts from 1.
	File string
	Line int
	// Column is the name of the column, empty if the row as a whole is wrong.
	Column string
	// Text is the text found there, cut to 60 bytes.
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

// badCell returns a RowError about one cell; the reader of the file fills in the position.
func badCell(reason, column, text, problem string) *RowError {
	const most = 60
	if len(text) > most {
		text = text[:most] + "..."
	}
	return &RowError{Reason: reason, Column: column, Text: text, Problem: problem}
}

// badRow returns a RowError about a whole row.
func badRow(reason, problem string) *RowError { return &RowError{Reason: reason, Problem: problem} }

// badRows counts the rows left out.
type badRows struct {
	allowed int
	found   int
	first   *RowError
	reasons map[string]int
}

// add counts a bad row. It returns an error if the limit is exceeded: the row's own error if none was allowed,
// otherwise one with the count and the first bad row.
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

// located fills in the position of a RowError. Other errors are returned unchanged.
func located(err error, file string, line int) error {
	var row *RowError
	if errors.As(err, &row) && row.File == "" {
		row.File, row.Line = file, line
	}
	return err
}

// number formats a value for a message as it would be written in a file.
func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
