package market

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// kind is what a file, or the files of a source, hold.
type kind string

const (
	kindBars    kind = "bars"    // CSV of bars
	kindSide    kind = "sides"   // CSV of bid bars, with another file of ask bars
	kindQuotes  kind = "quotes"  // CSV of quotes
	kindMinute  kind = "minute"  // LEAN zips of minutes, quotes or trades
	kindTick    kind = "tick"    // LEAN zips of single quotes
	kindBinance kind = "binance" // the messages of Binance's streams bookTicker and trade
)

// ticks reports whether the kind holds single quotes.
func (k kind) ticks() bool { return k == kindQuotes || k == kindTick || k == kindBinance }

var errUnknownFormat = errors.New("unknown format: expected a CSV with the columns timestamp, open, high, low, close " +
	"(volume, bid, ask) or timestamp, bid, ask, a LEAN zip (20140501_quote.zip), or a Binance bookTicker capture")

// stored is a file whose start has been inspected.
type stored struct {
	path, name string // name of the text inside
	size       int64
	kind       kind
	symbol     string
	simulated  bool
	// header is for the CSV kinds; skip is the number of lines before the first row.
	header header
	skip   int
	// side is "bid" or "ask" for kindSide.
	side string
	// day and trades are for the LEAN kinds; fxcm reports that the folder has that name.
	day    time.Time
	trades bool
	fxcm   bool
	// first is the time of the first row, used to order files; 0 if it cannot be read.
	first int64
}

// leanName matches the name of the text inside a LEAN zip.
var leanName = regexp.MustCompile(`^(\d{8})_([a-z0-9]+)_(minute|tick)_(quote|trade)\.csv$`)

// inspect reads the start of a file to recognise its format.
func inspect(path string, opts ReadOptions) (stored, error) {
	a, err := openArchive(path, opts.maxBytes(), nil)
	if err != nil {
		return stored{}, err
	}
	defer a.Close()
	info, err := a.file.Stat()
	if err != nil {
		return stored{}, err
	}
	s := stored{path: path, name: a.name, size: info.Size()}
	l := newLines(a)
	line, err := s.firstLine(l)
	if err != nil {
		return s, err
	}
	err = s.recognise(line, l, opts)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: has a header and no rows", path)
	}
	return s, pathError(path, err)
}

// firstLine returns the first line that is not a comment; our own comments are parsed.
func (s *stored) firstLine(l *lines) (string, error) {
	for {
		line, err := l.next()
		switch {
		case errors.Is(err, io.EOF):
			return "", fmt.Errorf("%s: the file has no rows", s.path)
		case err != nil:
			return "", pathError(s.path, err)
		case !strings.HasPrefix(line, "#"):
			return line, nil
		}
		s.skip++
		if c, ok := parseComment(line); ok {
			s.symbol, s.simulated = c.symbol, c.simulated
		}
	}
}

func (s *stored) recognise(line string, l *lines, opts ReadOptions) error {
	if m := leanName.FindStringSubmatch(s.name); m != nil {
		return s.recogniseLean(m)
	}
	if isCapture(line) {
		s.kind = kindBinance
		return s.recogniseCapture(line)
	}
	names, err := fields(line, nil)
	if err != nil {
		return errUnknownFormat
	}
	headless := len(names) == len(klineNames) && isNumber(names[0])
	if headless {
		names = klineNames
	}
	if s.header, err = parseHeader(names); err != nil {
		return err
	}
	if !headless {
		s.skip++
		if line, err = l.next(); err != nil {
			return err
		}
	}
	s.recogniseCSV()
	if cells, err := fields(line, nil); err == nil && s.header.time < len(cells) {
		s.first, _, _ = opts.clock(0).parse("", cells[s.header.time])
	}
	return nil
}

func (s *stored) recogniseCSV() {
	named, side := symbolOf(s.name)
	if s.symbol == "" {
		s.symbol = named
	}
	switch {
	case s.header.quotesOnly():
		s.kind = kindQuotes
	case side != "" && !s.header.quoted():
		s.kind, s.side = kindSide, side
	default:
		s.kind = kindBars
	}
}

// notSymbol matches the parts of a file name that do not name the instrument.
var notSymbol = regexp.MustCompile(`^(\d+|\d*m\d*|min|minute|bid|ask|bars?|quotes?|ticks?|trades?|csv|txt|gz|zip)$`)

// symbolOf takes the symbol from a file name, and the side if it names one: "gbpusd-m1-bid-2012.csv" is GBPUSD, bid.
func symbolOf(name string) (symbol, side string) {
	base := strings.ToLower(strings.TrimSuffix(name, filepath.Ext(name)))
	var parts []string
	for _, part := range strings.FieldsFunc(base, func(r rune) bool { return strings.ContainsRune("-_. ", r) }) {
		if part == "bid" || part == "ask" {
			side = part
		}
		if !notSymbol.MatchString(part) {
			parts = append(parts, strings.ToUpper(part))
		}
	}
	if len(parts) == 0 {
		return strings.ToUpper(base), side
	}
	return strings.Join(parts, "-"), side
}

// pathError adds the file to an error that does not name it.
func pathError(path string, err error) error {
	if err == nil || errors.Is(err, io.EOF) || strings.HasPrefix(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
