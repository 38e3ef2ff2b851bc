package rowtable

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

// parquetSource is a Parquet file of flat columns.
type parquetSource struct {
	file  *os.File
	table *parquet.File
	names []string
}

func openParquet(f *os.File) (_ source, err error) {
	defer func() { damaged(&err, recover()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &parquetSource{file: f}
	if s.table, err = parquet.OpenFile(f, info.Size()); err != nil {
		return nil, fmt.Errorf("not a Parquet file: %w", err)
	}
	for _, field := range s.table.Schema().Fields() {
		if !field.Leaf() || field.Repeated() {
			return nil, fmt.Errorf("column %q is nested: want flat columns", field.Name())
		}
		s.names = append(s.names, field.Name())
	}
	return s, nil
}

func (s *parquetSource) header() []string { return s.names }

func (s *parquetSource) close() error { return s.file.Close() }

// damaged turns a panic of the decoder, which damaged pages can cause, into an error.
func damaged(err *error, panicked any) {
	if panicked != nil {
		*err = fmt.Errorf("damaged: %v", panicked)
	}
}

func (s *parquetSource) read(columns []int, row func(string, []cell) error) (err error) {
	defer func() { damaged(&err, recover()) }()
	cells := make([]cell, len(columns))
	buffer := make([]parquet.Row, 64)
	number := 0
	for _, group := range s.table.RowGroups() {
		rows := group.Rows()
		for {
			n, err := rows.ReadRows(buffer)
			for _, r := range buffer[:n] {
				number++
				for i, c := range columns {
					if c >= len(r) {
						return errors.Join(fmt.Errorf("row %d has %d values: want %d", number, len(r), len(s.names)), rows.Close())
					}
					cells[i] = cellOf(r[c])
				}
				if err := row(fmt.Sprintf("row %d", number), cells); err != nil {
					return errors.Join(err, rows.Close())
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

func cellOf(v parquet.Value) cell {
	if v.IsNull() {
		return cell{}
	}
	switch v.Kind() {
	case parquet.Boolean:
		if v.Boolean() {
			return cell{number: 1, kind: isNumber}
		}
		return cell{kind: isNumber}
	case parquet.Int32:
		return cell{number: float64(v.Int32()), kind: isNumber}
	case parquet.Int64:
		return cell{number: float64(v.Int64()), kind: isNumber}
	case parquet.Float:
		return cell{number: float64(v.Float()), kind: isNumber}
	case parquet.Double:
		return cell{number: v.Double(), kind: isNumber}
	default:
		return cell{text: string(v.ByteArray()), kind: isText}
	}
}
