package tabular

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/greenlight-ml/greenlight/pkg/parquetbound"
)

// foreign bounds Parquet files of other programs. Common writers put up to a million rows of a row group in one page.
var foreign = parquetbound.Limits{
	Footer: 16 << 20, Items: 1 << 20, Rows: 1 << 27, Page: 64 << 20, Value: 64 << 10, Foreign: true,
	Advice: errors.New("write the file with smaller pages and row groups, or as CSV"),
}

// parquetText presents a Parquet file as comma-separated lines with a header. Times become epochs in their own unit.
type parquetText struct {
	groups []parquet.RowGroup
	fields []parquet.Field
	// columns read the current row group; values holds the next values of each.
	columns []parquet.ColumnChunkValueReader
	values  [][]parquet.Value
	text    bytes.Buffer
	out     *csv.Writer
	err     error
}

// batch is how many rows are read at a time.
const batch = 512

func newParquet(f io.ReaderAt, size int64) (*parquetText, error) {
	p, err := foreign.Open(f, size)
	if err != nil {
		return nil, err
	}
	t := &parquetText{groups: p.RowGroups(), fields: p.Schema().Fields()}
	t.out = csv.NewWriter(&t.text)
	names := make([]string, len(t.fields))
	for i, field := range t.fields {
		if !field.Leaf() || field.Repeated() {
			return nil, fmt.Errorf("column %.64q holds fields or lists, which are not supported: write flat columns", field.Name())
		}
		names[i] = line(field.Name())
	}
	if err := foreign.CheckPages(f, size, p.Metadata()); err != nil {
		return nil, err
	}
	return t, t.out.Write(names)
}

// line keeps a string on one line.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, text)
}

func (t *parquetText) Read(b []byte) (int, error) {
	for t.err == nil && t.text.Len() < len(b) {
		t.err = t.fill()
		t.out.Flush()
	}
	if t.text.Len() > 0 {
		return t.text.Read(b)
	}
	return 0, t.err
}

// fill writes a batch of rows.
func (t *parquetText) fill() (err error) {
	defer func() { parquetbound.Damaged(&err, recover()) }()
	if t.columns == nil {
		if len(t.groups) == 0 {
			return io.EOF
		}
		for _, c := range t.groups[0].ColumnChunks() {
			t.columns = append(t.columns, parquet.NewColumnChunkValueReader(c))
		}
		t.groups = t.groups[1:]
		t.values = make([][]parquet.Value, len(t.columns))
	}
	rows := -1
	for i, c := range t.columns {
		if cap(t.values[i]) == 0 {
			t.values[i] = make([]parquet.Value, batch)
		}
		n, err := readValues(c, t.values[i][:batch])
		if err != nil {
			return err
		}
		if rows >= 0 && n != rows {
			return fmt.Errorf("damaged: columns %.64q and %.64q differ in their number of rows", t.fields[i].Name(), t.fields[0].Name())
		}
		rows = n
	}
	if rows <= 0 {
		for _, c := range t.columns {
			err = errors.Join(err, c.Close())
		}
		t.columns = nil
		return err
	}
	record := make([]string, len(t.fields))
	for k := range rows {
		for i, field := range t.fields {
			if record[i], err = cell(field, t.values[i][k]); err != nil {
				return err
			}
		}
		if err := t.out.Write(record); err != nil {
			return err
		}
	}
	return nil
}

// readValues reads as many values as fit or exist. It copies strings, because the memory of a page is reused.
func readValues(c parquet.ColumnChunkValueReader, into []parquet.Value) (int, error) {
	n := 0
	for n < len(into) {
		k, err := c.ReadValues(into[n:])
		for i := n; i < n+k; i++ {
			into[i] = into[i].Clone()
		}
		n += k
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		case k == 0:
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// cell formats a value as it would be written in a CSV; null is empty.
func cell(field parquet.Field, v parquet.Value) (string, error) {
	if v.IsNull() {
		return "", nil
	}
	logical := field.Type().LogicalType()
	switch kind := v.Kind(); kind {
	case parquet.Boolean:
		return strconv.FormatBool(v.Boolean()), nil
	case parquet.Int32, parquet.Int64:
		n := v.Int64()
		if kind == parquet.Int32 {
			n = int64(v.Int32())
		}
		if logical != nil {
			if _, ok := any(logical.Value).(*format.DateType); ok {
				return time.Unix(n*24*60*60, 0).UTC().Format(time.DateOnly), nil
			}
		}
		if d := decimalOf(logical); d != nil {
			return decimal(big.NewInt(n), d)
		}
		return strconv.FormatInt(n, 10), nil
	case parquet.Int96: // the older form of a time: nanoseconds of the day, then the Julian day
		x := v.Int96()
		const unixEpoch, day = 2_440_588, 86_400_000_000_000
		return strconv.FormatInt((int64(x[2])-unixEpoch)*day+int64(uint64(x[1])<<32|uint64(x[0])), 10), nil
	case parquet.Float:
		return strconv.FormatFloat(float64(v.Float()), 'g', -1, 32), nil
	case parquet.Double:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64), nil
	case parquet.ByteArray, parquet.FixedLenByteArray:
		if d := decimalOf(logical); d != nil {
			return decimal(signed(v.ByteArray()), d)
		}
		if kind == parquet.ByteArray {
			return line(string(v.ByteArray())), nil
		}
	}
	return "", fmt.Errorf("column %.64q is a %s, which is not supported: write it as a double or a string", field.Name(), field)
}

func decimalOf(t *format.LogicalType) *format.DecimalType {
	if t == nil {
		return nil
	}
	if d, ok := any(t.Value).(*format.DecimalType); ok {
		return d
	}
	return nil
}

// decimal formats n / 10^scale.
func decimal(n *big.Int, d *format.DecimalType) (string, error) {
	if d.Scale < 0 || d.Scale > 76 || n.BitLen() > 256 {
		return "", fmt.Errorf("a decimal of %d bits and scale %d: want at most 256, and 0 to 76", n.BitLen(), d.Scale)
	}
	return n.String() + "e-" + strconv.Itoa(int(d.Scale)), nil
}

// signed reads a big-endian number in two's complement.
func signed(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return n
}
