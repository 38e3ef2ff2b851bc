// Package rowtable reads tables of numbers that other programs wrote, CSV or Parquet: a time, the features of a row, and its
// label.
package rowtable

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// maxCells limits the numbers of a table, 8 bytes each. maxColumns limits the columns of a file.
const (
	maxCells   = 200_000_000
	maxColumns = 10_000
)

// Columns names the columns to read. Others are ignored.
type Columns struct {
	// Time is the column of the instant of a row; empty reads no times. Group is the column that separates series, for example
	// of symbols; empty is one series.
	Time, Group string
	// Numbers are the columns of numbers.
	Numbers []string
}

// Table has rows in the order of the file.
type Table struct {
	// Times are in Unix milliseconds.
	Times  []int64
	Groups []string
	// Numbers has a column per name, with NaN for a missing value.
	Numbers map[string][]float64
	// Rows is the number of rows.
	Rows int
}

// cell is a value of a row.
type cell struct {
	number float64
	text   string
	// kind is the kind of the value.
	kind cellKind
}

type cellKind int

const (
	missing cellKind = iota
	isNumber
	isText
)

// source is an open file.
type source interface {
	// header returns the names of the columns.
	header() []string
	// read calls row for each row, with the cells of the columns at the indexes; where names the row for an error.
	read(columns []int, row func(where string, cells []cell) error) error
	close() error
}

func open(path string) (source, error) {
	f, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	var s source
	if strings.EqualFold(filepath.Ext(path), ".parquet") {
		s, err = openParquet(f)
	} else {
		s, err = openCSV(f)
	}
	if err == nil {
		err = checkHeader(s.header())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return s, nil
}

func checkHeader(names []string) error {
	if len(names) == 0 || len(names) > maxColumns {
		return fmt.Errorf("%d columns: want 1 to %d", len(names), maxColumns)
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		switch {
		case name == "":
			return fmt.Errorf("column %d has no name: the first line must name the columns", i+1)
		case seen[name]:
			return fmt.Errorf("column %q is there twice", text.Clean(name, 80))
		}
		seen[name] = true
	}
	return nil
}

// Header returns the names of the columns of a file.
func Header(path string) ([]string, error) {
	s, err := open(path)
	if err != nil {
		return nil, err
	}
	return s.header(), s.close()
}

// Read reads columns of a file.
func Read(path string, c Columns) (_ *Table, err error) {
	s, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	names := slices.Clone(c.Numbers)
	for _, name := range []string{c.Time, c.Group} {
		if name != "" {
			names = append(names, name)
		}
	}
	header := s.header()
	at := make([]int, len(names))
	var absent []string
	for i, name := range names {
		if at[i] = slices.Index(header, name); at[i] < 0 {
			absent = append(absent, name)
		}
	}
	if len(absent) > 0 {
		return nil, fmt.Errorf("%s has no column %s; it has %s", path, listed(absent), listed(header))
	}
	t := &Table{Numbers: make(map[string][]float64, len(c.Numbers))}
	columns := make([][]float64, len(c.Numbers))
	err = s.read(at, func(where string, cells []cell) error {
		if t.Rows++; t.Rows*max(1, len(c.Numbers)) > maxCells {
			return fmt.Errorf("more than %d numbers: give fewer rows or columns", maxCells)
		}
		for i := range c.Numbers {
			v, err := cells[i].value()
			if err != nil {
				return fmt.Errorf("%s, column %q: %w", where, names[i], err)
			}
			columns[i] = append(columns[i], v)
		}
		rest := cells[len(c.Numbers):]
		if c.Time != "" {
			ms, err := rest[0].time()
			if err != nil {
				return fmt.Errorf("%s, column %q: %w", where, c.Time, err)
			}
			t.Times, rest = append(t.Times, ms), rest[1:]
		}
		if c.Group != "" {
			t.Groups = append(t.Groups, rest[0].String())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if t.Rows == 0 {
		return nil, fmt.Errorf("%s has no rows", path)
	}
	for i, name := range c.Numbers {
		t.Numbers[name] = columns[i]
	}
	return t, nil
}

// listed formats names for an error.
func listed(names []string) string {
	const most = 20
	var clean []string
	for _, name := range names[:min(len(names), most)] {
		clean = append(clean, text.Clean(name, 64))
	}
	s := strings.Join(clean, ", ")
	if len(names) > most {
		s += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return s
}

// String returns the value as text.
func (c cell) String() string {
	if c.kind == isNumber {
		return strconv.FormatFloat(c.number, 'g', -1, 64)
	}
	return text.Clean(c.text, 64)
}

// value returns the number, NaN for a missing one. Infinity is missing too: no model can score it.
func (c cell) value() (float64, error) {
	switch c.kind {
	case isNumber:
		if math.IsInf(c.number, 0) {
			return math.NaN(), nil
		}
		return c.number, nil
	case isText:
		switch strings.ToLower(c.text) {
		case "true":
			return 1, nil
		case "false":
			return 0, nil
		case "", "nan", "na", "n/a", "null", "none", "inf", "-inf", "+inf":
			return math.NaN(), nil
		}
		v, err := strconv.ParseFloat(c.text, 64)
		if err != nil {
			return 0, fmt.Errorf("%q: want a number", text.Clean(c.text, 40))
		}
		return cell{number: v, kind: isNumber}.value()
	case missing:
	}
	return math.NaN(), nil
}

// timeForms are the accepted forms of a time as text; without a zone it is UTC.
var timeForms = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04", "2006-01-02",
}

// time returns the instant in Unix milliseconds. The unit of a number (s, ms, us or ns) follows from its size.
func (c cell) time() (int64, error) {
	v := c.number
	switch c.kind {
	case missing:
		return 0, errors.New("no time")
	case isText:
		n, err := strconv.ParseFloat(c.text, 64)
		if err != nil {
			for _, form := range timeForms {
				if t, err := time.Parse(form, c.text); err == nil {
					return checkTime(float64(t.UnixMilli()))
				}
			}
			return 0, fmt.Errorf("%q: want a time, as a Unix time or as 2006-01-02T15:04:05Z", text.Clean(c.text, 40))
		}
		v = n
	case isNumber:
	}
	switch size := math.Abs(v); {
	case size < 1e11:
		v *= 1e3 // seconds
	case size < 1e14: // milliseconds
	case size < 1e17:
		v /= 1e3
	default:
		v /= 1e6
	}
	return checkTime(v)
}

// checkTime rejects times before 1973 and after 2199, which are errors of unit.
func checkTime(ms float64) (int64, error) {
	if first, last := 9.46e10, 7.258e12; !(ms >= first && ms <= last) {
		return 0, fmt.Errorf("time %v ms: want a time from 1973 to 2199", ms)
	}
	return int64(ms), nil
}
