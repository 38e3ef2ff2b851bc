package featurelog

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"
)

// The metadata keys of a file. metaWriter describes the process that wrote the file: "locks" means that it keeps the file
// locked for as long as it may replace it. Older executors do not, nor does any executor on a file system without locks.
const (
	metaSchema, metaHash, metaWriter = "greenlight.schema", "greenlight.schema_hash", "greenlight.writer"

	locks = "locks"
)

// errEncode marks an error in the rows rather than on the disk.
var errEncode = errors.New("rows cannot be encoded")

// encode writes rows of one schema as a Parquet file, using encodings that every reader supports. locked reports whether
// the file is locked.
func encode(w io.Writer, s *Schema, rows []*Row, locked bool) (err error) {
	defer func() {
		if p := recover(); p != nil { // an encoder bug must not end the process that serves requests
			err = fmt.Errorf("%w: %v", errEncode, p)
		}
	}()
	options := []parquet.WriterOption{
		s.layout,
		parquet.Compression(&snappy.Codec{}),
		parquet.DataPageVersion(1),
		parquet.CreatedBy("greenlight", "featurelog", "1"),
		parquet.KeyValueMetadata(metaSchema, s.Name),
		parquet.KeyValueMetadata(metaHash, s.Hash),
	}
	if locked {
		options = append(options, parquet.KeyValueMetadata(metaWriter, locks))
	}
	out := parquet.NewWriter(w, options...)
	values := make([]parquet.Value, 0, min(len(rows), 1024))
	for i, c := range out.ColumnWriters() {
		put := featureValue(i - len(columns))
		if i < len(columns) {
			put = columns[i].put
		}
		level := 0
		if i >= len(columns) || columns[i].node.Optional() {
			level = 1
		}
		for rest := rows; len(rest) > 0; {
			n := min(len(rest), cap(values))
			values = values[:0]
			for _, r := range rest[:n] {
				if v, ok := put(r); ok {
					values = append(values, v.Level(0, level, i))
				} else {
					values = append(values, parquet.NullValue().Level(0, 0, i))
				}
			}
			if _, err := c.WriteRowValues(values); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return out.Close()
}

// featureValue returns the value of feature k.
func featureValue(k int) func(*Row) (parquet.Value, bool) {
	return func(r *Row) (parquet.Value, bool) {
		if len(r.Features) == 0 {
			return parquet.Value{}, false
		}
		return numberValue(r.Features[k])
	}
}
