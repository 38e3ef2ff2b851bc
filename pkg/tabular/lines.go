package tabular

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine is the longest line that is read, in bytes. The longest line in a known data set has 250.
const maxLine = 1 << 20

// Lines returns the lines of a text one by one, without line ends, byte order mark or blank lines.
type Lines struct {
	r  *bufio.Reader
	no int
}

// NewLines returns the lines of a text.
func NewLines(r io.Reader) *Lines { return &Lines{r: bufio.NewReaderSize(r, 64<<10)} }

// Number returns the number of the last line that Next returned, from 1.
func (l *Lines) Number() int { return l.no }

// Next returns the next line, or io.EOF after the last. A read error takes precedence over the partial line before it,
// so that a truncated file is not reported as a bad row.
func (l *Lines) Next() (string, error) {
	for {
		text, err := l.read()
		if err != nil {
			return "", err
		}
		if l.no++; l.no == 1 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		}
		if text = bytes.TrimRight(text, "\r\n"); len(bytes.TrimSpace(text)) > 0 {
			return string(text), nil
		}
	}
}

func (l *Lines) read() ([]byte, error) {
	text, err := l.r.ReadSlice('\n')
	if err == nil || errors.Is(err, io.EOF) && len(text) > 0 {
		return text, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	long := bytes.Clone(text)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxLine {
			return nil, fmt.Errorf("line %d is longer than %d bytes; this is not a table", l.no+1, maxLine)
		}
		text, err = l.r.ReadSlice('\n')
		long = append(long, text...)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return long, nil
}

// Split splits a line at its separators into into, which is overwritten. Quoted cells are unquoted; a line break within
// quotes is not supported.
func Split(line string, separator byte, into []string) ([]string, error) {
	if strings.IndexByte(line, '"') >= 0 {
		r := csv.NewReader(strings.NewReader(line))
		r.Comma = rune(separator)
		return r.Read()
	}
	into = into[:0]
	for {
		i := strings.IndexByte(line, separator)
		if i < 0 {
			return append(into, line), nil
		}
		into = append(into, line[:i])
		line = line[i+1:]
	}
}
