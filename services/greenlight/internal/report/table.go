package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// CumulativeName is the CSV of all days, in the evidence folder.
const CumulativeName = "daily/ml_daily_reports.csv"

const heading = "date,figure,value,unit,n,threshold,status,coverage,action,reason\n"

// Table returns the figures of a day as CSV: a heading, then one line each.
func (s *Summary) Table() ([]byte, error) {
	out := bytes.NewBufferString(heading)
	w := csv.NewWriter(out)
	for _, f := range s.Figures {
		value := ""
		if f.Value != nil {
			value = number(*f.Value)
		}
		if err := w.Write([]string{
			s.Name, f.Name, value, string(f.Unit), strconv.FormatUint(f.N, 10), string(f.Op) + " " + number(f.Threshold),
			string(f.Verdict), number(s.Coverage), f.Action, strings.Join(strings.Fields(f.Reason), " "),
		}); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return out.Bytes(), w.Error()
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// maxTable bounds the table of all days, in bytes. A day takes a few hundred.
const maxTable = 64 << 20

// merge returns the table of all days with a day added, in order of days.
func merge(path, date string, table []byte) ([]byte, error) {
	have, err := durable.ReadFile(path, maxTable)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(have) > 0 && !bytes.HasPrefix(have, []byte(heading)) {
		return nil, fmt.Errorf("%s: %w: its first line is not %q", path, fs.ErrInvalid, strings.TrimSpace(heading))
	}
	var before, after []byte
	for line := range bytes.Lines(bytes.TrimPrefix(have, []byte(heading))) {
		switch d, _, _ := bytes.Cut(line, []byte{','}); {
		case string(d) < date:
			before = append(before, line...)
		case string(d) > date:
			after = append(after, line...)
		}
	}
	return bytes.Join([][]byte{[]byte(heading), before, bytes.TrimPrefix(table, []byte(heading)), after}, nil), nil
}
