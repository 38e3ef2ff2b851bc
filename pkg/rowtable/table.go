// Package rowtable reads tables of numbers from other programs: a time, the features of a row, and its label. A table is in
// any form that [tabular.Open] reads, with column names in the first line.
package rowtable

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/tabular"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// maxCells limits the numbers in a table, 8 bytes each. maxColumns limits the columns of a file.
const (
	maxCells   = 200_000_000
	maxColumns = 10_000
)

// separators are the candidates, in order. The most frequent in the first line separates the columns.
const separators = ",;\t|"

// Columns names the columns to read. Others are ignored.
type Columns struct {
	// Time is the column with the time of a row; empty reads no times. Group is the column that separates series, for
	// example by symbol; empty means one series.
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
	// SHA256 is the digest of the stored file, in lower-case hexadecimal.
	SHA256 string
}

// Reader is an open table.
type Reader struct {
	path      string
	archive   *tabular.Archive
	lines     *tabular.Lines
	separator byte
	header    []string
}

// Open opens a table and reads the names of its columns.
func Open(path string) (*Reader, error) {
	a, err := tabular.Open(path, tabular.Options{})
	if err != nil {
		return nil, err
	}
	r := &Reader{path: path, archive: a, lines: tabular.NewLines(a)}
	if err := r.readHeader(); err != nil {
		return nil, errors.Join(r.wrap(err), a.Close())
	}
	return r, nil
}

// wrap adds the file name to an error that lacks it.
func (r *Reader) wrap(err error) error {
	if strings.HasPrefix(err.Error(), r.path+":") { // it is from tabular
		return err
	}
	return fmt.Errorf("%s: %w", r.path, err)
}

func (r *Reader) readHeader() error {
	if n := len(r.archive.Members()); n > 1 {
		return fmt.Errorf("the zip holds %d files: unpack it and give the one with the table", n)
	}
	line, err := r.lines.Next()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	}
	if err != nil {
		return err
	}
	most := -1
	for i := range len(separators) {
		if n := strings.Count(line, separators[i:i+1]); n > most {
			r.separator, most = separators[i], n
		}
	}
	if most >= maxColumns {
		return fmt.Errorf("%d columns: want 1 to %d", most+1, maxColumns)
	}
	names, err := tabular.Split(line, r.separator, nil)
	if err != nil {
		return fmt.Errorf("line %d has a quotation mark out of place: %w", r.lines.Number(), err)
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
			return fmt.Errorf("column %d has no name: the first line must name the columns", i+1)
		case seen[name]:
			return fmt.Errorf("column %q appears twice: rename one", text.Clean(name, 80))
		}
		seen[name] = true
		r.header = append(r.header, name)
	}
	return nil
}

// Header returns the names of the columns.
func (r *Reader) Header() []string { return r.header }

// Close closes the file.
func (r *Reader) Close() error { return r.archive.Close() }

// Header returns the names of the columns of a file.
func Header(path string) ([]string, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	return r.header, r.Close()
}

// Read reads the columns of all rows. It can be called once.
func (r *Reader) Read(c Columns) (*Table, error) {
	names := slices.Clone(c.Numbers)
	for _, name := range []string{c.Time, c.Group} {
		if name != "" {
			names = append(names, name)
		}
	}
	at := make([]int, len(names))
	var absent []string
	for i, name := range names {
		if at[i] = slices.Index(r.header, name); at[i] < 0 {
			absent = append(absent, name)
		}
	}
	if len(absent) > 0 {
		return nil, fmt.Errorf("%s has no column %s; it has %s", r.path, listed(absent), listed(r.header))
	}
	t := &Table{Numbers: make(map[string][]float64, len(c.Numbers))}
	columns := make([][]float64, len(c.Numbers))
	groups := map[string]string{}
	var cells []string
	for {
		line, err := r.lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, r.wrap(err)
		}
		if t.Rows++; t.Rows*max(1, len(c.Numbers)) > maxCells {
			return nil, fmt.Errorf("%s: more than %d numbers: give fewer rows or columns", r.path, maxCells)
		}
		if cells, err = tabular.Split(line, r.separator, cells); err != nil {
			return nil, r.bad("has a quotation mark out of place, or a line break within quotes")
		}
		if len(cells) != len(r.header) {
			return nil, r.bad(fmt.Sprintf("has %s, the first line has %d", text.Count(len(cells), "column"), len(r.header)))
		}
		for i := range c.Numbers {
			v, ok := number(cells[at[i]])
			if !ok {
				return nil, r.bad(fmt.Sprintf("column %q: %q: want a number", text.Clean(names[i], 64), text.Clean(cells[at[i]], 40)))
			}
			columns[i] = append(columns[i], v)
		}
		rest := at[len(c.Numbers):]
		if c.Time != "" {
			ms, err := marketfile.ParseTime(plain(cells[rest[0]]))
			if err != nil {
				return nil, r.bad(fmt.Sprintf("column %q: %v", text.Clean(c.Time, 64), err))
			}
			t.Times, rest = append(t.Times, ms), rest[1:]
		}
		if c.Group != "" {
			cell := cells[rest[0]]
			group, ok := groups[cell]
			if !ok { // a copy, because the cell keeps its whole line in memory
				group = strings.Clone(text.Clean(strings.TrimSpace(cell), 64))
				groups[strings.Clone(cell)] = group
			}
			t.Groups = append(t.Groups, group)
		}
	}
	if t.Rows == 0 {
		return nil, fmt.Errorf("%s has no rows", r.path)
	}
	for i, name := range c.Numbers {
		t.Numbers[name] = columns[i]
	}
	var err error
	t.SHA256, err = r.archive.Digest()
	return t, err
}

// bad returns the error for the last line.
func (r *Reader) bad(problem string) error {
	return fmt.Errorf("%s: line %d %s", r.path, r.lines.Number(), problem)
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

// number returns the value of a cell, NaN for a missing one. Infinity is missing too: no model can score it.
func number(cell string) (v float64, ok bool) {
	cell = strings.TrimSpace(cell)
	v, err := strconv.ParseFloat(cell, 64)
	if err == nil {
		if math.IsInf(v, 0) {
			v = math.NaN()
		}
		return v, true
	}
	switch strings.ToLower(cell) {
	case "true":
		return 1, true
	case "false":
		return 0, true
	case "", "na", "n/a", "<na>", "nat", "null", "none":
		return math.NaN(), true
	}
	return 0, false
}

// plain returns an epoch without an exponent (floating-point columns have one), and any other time unchanged.
func plain(cell string) string {
	if strings.ContainsAny(cell, "eE") {
		if v, err := strconv.ParseFloat(strings.TrimSpace(cell), 64); err == nil {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return cell
}
