package market

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
)

// comment is the first line of our own CSV files. It holds what the columns cannot: the symbol, and whether the numbers are
// simulated, so that simulated data is never mistaken for real data.
type comment struct {
	symbol    string
	simulated bool
}

const commentStart = "# greenlight market data"

func (c comment) String() string {
	source := "market"
	if c.simulated {
		source = "simulated"
	}
	return fmt.Sprintf("%s source=%s symbol=%q", commentStart, source, c.symbol)
}

// ParseComment reads the first line of what WriteBars and WriteQuotes write. It reports false for other comments.
func ParseComment(line string) (symbol string, simulated, ok bool) {
	rest, ok := strings.CutPrefix(line, commentStart+" source=")
	source, quoted, named := strings.Cut(rest, " symbol=")
	symbol, err := strconv.Unquote(quoted)
	return symbol, source == "simulated", ok && named && err == nil
}

// WriteBars writes a series as CSV for marketfile.Read: ts_ms (Unix milliseconds UTC, start of the minute), open, high, low,
// close, bid, ask, volume; bid and ask are empty if there is no quote. Reading returns exactly the same numbers.
func WriteBars(w io.Writer, s *Series) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%v\nts_ms,open,high,low,close,bid,ask,volume\n", comment{s.Symbol, s.Simulated})
	line := make([]byte, 0, 160)
	for _, bar := range s.Bars {
		line = strconv.AppendInt(line[:0], bar.Start, 10)
		line = appendNumbers(line, bar.Open, bar.High, bar.Low, bar.Close)
		if bar.Quoted() {
			line = appendNumbers(line, bar.Bid, bar.Ask)
		} else {
			line = append(line, ",,"...)
		}
		line = append(appendNumbers(line, bar.Volume), '\n')
		b.Write(line)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write bars: %w", err)
	}
	return nil
}

// WriteQuotes writes quotes as CSV for marketfile.Read: ts_ms (Unix milliseconds UTC), bid, ask, bid_size, ask_size.
// The numbers are read back unchanged.
func WriteQuotes(w io.Writer, symbol string, simulated bool, quotes iter.Seq[Quote]) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%v\nts_ms,bid,ask,bid_size,ask_size\n", comment{symbol, simulated})
	line := make([]byte, 0, 120)
	for q := range quotes {
		line = strconv.AppendInt(line[:0], q.Time, 10)
		line = append(appendNumbers(line, q.Bid, q.Ask, q.BidSize, q.AskSize), '\n')
		if _, err := b.Write(line); err != nil {
			return fmt.Errorf("write quotes: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write quotes: %w", err)
	}
	return nil
}

// appendNumbers appends each number after a comma, in the shortest form that reads back unchanged.
func appendNumbers(line []byte, numbers ...float64) []byte {
	for _, x := range numbers {
		line = strconv.AppendFloat(append(line, ','), x, 'g', -1, 64)
	}
	return line
}
