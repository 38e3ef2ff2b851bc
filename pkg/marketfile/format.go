package marketfile

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/tabular"
)

// kind is what a file, or the files of a source, hold.
type kind string

const (
	kindBars    kind = "bars"    // bars
	kindSide    kind = "sides"   // bid bars, with another file of ask bars
	kindQuotes  kind = "quotes"  // quotes
	kindMinute  kind = "minute"  // LEAN zips of minutes, quotes or trades
	kindTick    kind = "tick"    // LEAN zips of single quotes
	kindBinance kind = "binance" // the messages of Binance's streams bookTicker and trade
)

var errUnknownFormat = errors.New("unknown format: want a CSV with the columns timestamp, open, high, low, close " +
	"(volume, bid, ask) or timestamp, bid, ask, a LEAN zip (20140501_quote.zip), or a Binance bookTicker capture; " +
	"--columns time=...,open=...,high=...,low=...,close=... names columns, or their numbers from 1")

const (
	// maxPreamble is how many lines may precede the header or, without one, the first row.
	maxPreamble = 20
	// sampleRows and sampleBytes limit how much of a file is examined before it is read.
	sampleRows, sampleBytes = 600, 1 << 20
)

// stored is a file, or one of several in a zip, whose start has been inspected.
type stored struct {
	path, name string // name of the text inside
	member     int    // its number in a zip
	several    bool   // reports that the zip has others
	size       int64
	kind       kind
	symbol     string
	simulated  bool
	layout     layout
	// skip is the number of lines before the first row.
	skip int
	// side is "bid" or "ask" for kindSide.
	side string
	// day and trades are for the LEAN kinds; fxcm reports whether the folder has that name.
	day    time.Time
	trades bool
	fxcm   bool
	// first is the time of the first row, used to order files; 0 if it cannot be read.
	first int64
	// taken lists what was guessed.
	taken []string
}

// where returns the name of the file for messages.
func (s *stored) where() string {
	if s.several {
		return s.path + "/" + s.name
	}
	return s.path
}

// clock returns the clock of the file.
func (s *stored) clock(opts Options) clock {
	c := opts.clock(0)
	if s.fxcm {
		c = opts.clock(fxcmClock)
	}
	c.monthFirst = s.layout.monthFirst
	if !s.day.IsZero() {
		c.midnight = s.day.UnixMilli()
	}
	return c
}

// inspect reads the start of a file, or of every file in a zip, to recognise its format. Texts and documents next to data
// in a zip are left out.
func inspect(path string, opts Options) ([]stored, error) {
	s, members, err := inspectMember(path, 0, opts)
	switch {
	case len(members) >= 2:
	case err != nil:
		return nil, err
	default:
		return []stored{s}, nil
	}
	var found []stored
	for i, name := range members {
		switch s, _, other := inspectMember(path, i, opts); {
		case other == nil:
			found = append(found, s)
		case dataEndings[strings.ToLower(filepath.Ext(name))]:
			return nil, other // an incomplete set must not be taken for a complete one
		case err == nil:
			err = other
		}
	}
	if len(found) == 0 {
		return nil, err
	}
	return found, nil
}

func inspectMember(path string, member int, opts Options) (stored, []string, error) {
	a, err := tabular.Open(path, tabular.Options{MaxBytes: opts.MaxBytes, Member: member})
	if err != nil {
		return stored{}, nil, err
	}
	defer a.Close()
	s := stored{path: path, name: a.Name(), member: member, several: len(a.Members()) > 1, size: a.Size()}
	l := tabular.NewLines(a)
	line, err := s.firstLine(l)
	if err == nil {
		err = s.recognise(line, l, opts)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: has a header and no rows", s.where())
		}
	}
	return s, a.Members(), pathError(s.where(), err)
}

// firstLine returns the first line that is not a comment; our own comments are parsed.
func (s *stored) firstLine(l *tabular.Lines) (string, error) {
	for {
		line, err := l.Next()
		switch {
		case errors.Is(err, io.EOF):
			return "", fmt.Errorf("%s: the file has no rows", s.where())
		case err != nil:
			return "", err
		case !strings.HasPrefix(line, "#"):
			return line, nil
		}
		s.skip++
		if symbol, simulated, ok := market.ParseComment(line); ok {
			s.symbol, s.simulated = symbol, simulated
		}
	}
}

func (s *stored) recognise(line string, l *tabular.Lines, opts Options) error {
	if m := leanName.FindStringSubmatch(s.name); m != nil {
		return s.recogniseLean(m, line)
	}
	if isCapture(line) {
		s.kind = kindBinance
		return s.recogniseCapture(line)
	}
	lines, err := sample(line, l)
	if err != nil {
		return err
	}
	rows, err := s.findTable(lines, opts.Columns)
	if err != nil {
		return err
	}
	s.skip += len(lines) - len(rows)
	if err := s.arrange(rows, l, opts); err != nil {
		return err
	}
	s.named()
	return nil
}

// sample returns the first lines of a file.
func sample(line string, l *tabular.Lines) ([]string, error) {
	lines, size := []string{line}, len(line)
	for len(lines) < sampleRows && size < sampleBytes {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		lines, size = append(lines, line), size+len(line)
	}
	return lines, nil
}

// separators are tried in this order.
const separators = ",;\t|"

// findTable finds the header, or the first row of a table without one, and returns the rows.
func (s *stored) findTable(lines []string, given map[string]string) ([]string, error) {
	start := lines[:min(len(lines), maxPreamble+1)]
	var wrong error
	for i, line := range start {
		best := 0
		for _, separator := range []byte(separators) {
			names := split(line, separator)
			if len(names) < 2 || slices.ContainsFunc(names, isValue) {
				continue
			}
			l := newLayout(names, true, separator)
			err := l.byName(given)
			if n := l.recognised(); n > best {
				s.layout, best, wrong = l, n, err
			}
		}
		switch {
		case best == 0:
			continue
		case wrong != nil:
			return nil, wrong
		case i == len(lines)-1:
			if err := s.layout.complete(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		s.preamble(i)
		return lines[i+1:], nil
	}
	for i, line := range start {
		for _, separator := range []byte(separators) {
			cells := split(line, separator)
			if len(cells) < 3 || !isRow(cells) || i+1 < len(lines) && len(split(lines[i+1], separator)) != len(cells) {
				continue
			}
			return lines[i:], s.nameless(lines, i, separator, given)
		}
	}
	return nil, fmt.Errorf("%w; the first line is %.200q", errUnknownFormat, lines[0])
}

// nameless takes a table whose first row is row i. The line before it is the header if it has as many cells, even if none
// of its names is known.
func (s *stored) nameless(lines []string, i int, separator byte, given map[string]string) error {
	names := make([]string, len(split(lines[i], separator)))
	for k := range names {
		names[k] = fmt.Sprintf("column %d", k+1)
	}
	headed := false
	if i > 0 {
		if above := split(lines[i-1], separator); len(above) == len(names) && !slices.ContainsFunc(above, isValue) {
			names, headed = above, true
			i--
		}
	}
	s.preamble(i)
	s.layout = newLayout(names, headed, separator)
	return s.layout.byOption(given)
}

// preamble records the lines before the table.
func (s *stored) preamble(n int) {
	if n > 0 {
		s.take(fmt.Sprintf("lines before the table: %d left out", n))
	}
}

func (s *stored) take(note string) { s.taken = append(s.taken, note) }

// arrange completes the layout from the rows: columns by shape, the form of times and numbers, the order.
func (s *stored) arrange(rows []string, l *tabular.Lines, opts Options) error {
	t := &table{layout: &s.layout, ahead: opts.clock(0).ahead}
	for _, row := range rows {
		if cells := split(row, s.layout.separator); len(cells) == len(s.layout.names) {
			t.rows = append(t.rows, cells)
		}
	}
	t.decimals()
	if s.layout.comma {
		s.take("decimals after a comma")
	}
	byName := s.layout.complete()
	t.findTime(opts.Columns["time"] != "")
	if byName != nil && s.layout.complete() != nil {
		t.findPrices()
		if s.layout.complete() != nil {
			if errors.Is(byName, errUnknownFormat) && len(rows) > 0 {
				return fmt.Errorf("%w; the first row is %.200q", byName, rows[0])
			}
			return byName
		}
	}
	if note := t.description(); note != "" {
		s.take(note)
	}
	if note, err := s.dateOrder(t, l); err != nil {
		return err
	} else if note != "" {
		s.take(note)
	}
	times := t.times()
	if len(times) > 0 && len(t.rows) > 0 {
		s.first, _, _ = t.clock().parse("", t.timeText(t.rows[0]))
	}
	if s.layout.newestFirst = descends(times); s.layout.newestFirst {
		s.take("the newest row comes first")
	}
	return nil
}

// dateOrder decides whether the month comes before the day in ambiguous dates. It reads on until a day above 12 decides.
func (s *stored) dateOrder(t *table, l *tabular.Lines) (string, error) {
	decides := func(cells []string) (first, second string, open bool) {
		if len(cells) != len(s.layout.names) {
			return "", "", true
		}
		first, second, _, _, ok := dayParts(strings.TrimSpace(t.timeText(cells)))
		return first, second, ok && len(first) < 4 && second[0] <= '9'
	}
	next := func(i int) ([]string, error) {
		if i < len(t.rows) {
			return t.rows[i], nil
		}
		line, err := l.Next()
		return split(line, s.layout.separator), err
	}
	separator := ""
	for i := 0; ; i++ {
		cells, err := next(i)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		first, second, open := decides(cells)
		switch {
		case !open:
			return "", nil
		case first == "":
			continue
		case first > "12" && len(first) == 2:
			return "", nil
		case second > "12" && len(second) == 2:
			s.layout.monthFirst = true
			return "", nil
		}
		separator = strings.TrimSpace(t.timeText(cells))[len(first) : len(first)+1]
	}
	if s.layout.monthFirst = separator == "/"; s.layout.monthFirst {
		return "dates as month/day/year, which no row decides", nil
	}
	return "dates as day" + separator + "month" + separator + "year, which no row decides", nil
}

// named takes symbol and side from the file's name, and determines the kind.
func (s *stored) named() {
	symbol, side := symbolOf(s.name)
	if s.symbol == "" {
		s.symbol = symbol
	}
	switch {
	case !s.layout.bars():
		s.kind = kindQuotes
	case side != "" && !s.layout.quoted():
		s.kind, s.side = kindSide, side
	default:
		s.kind = kindBars
	}
}

// notSymbol matches the parts of a file name that do not name the instrument.
var notSymbol = regexp.MustCompile(`^(\d+|\d*m\d*|min|minute|bid|ask|bars?|quotes?|ticks?|trades?|csv|tsv|txt|gz|zip|parquet)$`)

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
