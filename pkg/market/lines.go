package market

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

// lines returns the lines of a text one by one, without line ends, byte order mark or blank lines.
type lines struct {
	r  *bufio.Reader
	no int
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next line, or io.EOF after the last. A read error takes precedence over the partial line before it,
// so that a truncated file is not reported as a bad row.
func (l *lines) next() (string, error) {
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

func (l *lines) read() ([]byte, error) {
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
			return nil, fmt.Errorf("line %d is longer than %d bytes; this is not a file of quotes or bars", l.no+1, maxLine)
		}
		text, err = l.r.ReadSlice('\n')
		long = append(long, text...)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return long, nil
}

// fields splits a line at its commas into into, which is overwritten. Quoted fields are unquoted; a line break within
// quotes is not supported.
func fields(line string, into []string) ([]string, error) {
	if strings.IndexByte(line, '"') >= 0 {
		r := csv.NewReader(strings.NewReader(line))
		return r.Read()
	}
	into = into[:0]
	for {
		i := strings.IndexByte(line, ',')
		if i < 0 {
			return append(into, line), nil
		}
		into = append(into, line[:i])
		line = line[i+1:]
	}
}
