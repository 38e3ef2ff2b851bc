package rowtable

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxHeader limits the first line of a CSV file, in bytes.
const maxHeader = 1 << 20

// csvSource is a CSV file, separated by comma, semicolon or tab, whichever is most frequent in the first line.
type csvSource struct {
	file   *os.File
	reader *csv.Reader
	names  []string
}

func openCSV(f *os.File) (source, error) {
	in := bufio.NewReaderSize(f, maxHeader)
	start, err := in.Peek(maxHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line, _, whole := bytes.Cut(start, []byte("\n"))
	if !whole && len(start) == maxHeader {
		return nil, fmt.Errorf("the first line has more than %d bytes: want a line of column names", maxHeader)
	}
	if bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) { // the mark of UTF-8
		_, _ = in.Discard(3)
	}
	s := &csvSource{file: f, reader: csv.NewReader(in)}
	s.reader.ReuseRecord = true
	best := -1
	for _, separator := range ",;\t" {
		if n := bytes.Count(line, []byte(string(separator))); n > best {
			s.reader.Comma, best = separator, n
		}
	}
	names, err := s.reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s.names = append(s.names, strings.TrimSpace(name))
	}
	return s, nil
}

func (s *csvSource) header() []string { return s.names }

func (s *csvSource) close() error { return s.file.Close() }

func (s *csvSource) read(columns []int, row func(string, []cell) error) error {
	cells := make([]cell, len(columns))
	for {
		record, err := s.reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err // it names the line
		}
		for i, c := range columns {
			cells[i] = cell{text: strings.TrimSpace(record[c]), kind: isText}
		}
		line, _ := s.reader.FieldPos(0)
		if err := row(fmt.Sprintf("line %d", line), cells); err != nil {
			return err
		}
	}
}
