package featurelog

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/parquetbound"
)

// readRows is how many rows are read at a time.
const readRows = 512

// errStopped reports that the receiver wants no more rows.
var errStopped = errors.New("stopped")

// Read yields the rows that arrived in [from, to), by day, schema and file, and within a file in the order of logging.
// The receiver owns the rows; those of one file share their Schema. A missing folder, and a damaged or foreign file,
// yields an error that names it, and then ends. Files with temporary names are skipped.
func Read(dir string, from, to time.Time) iter.Seq2[Row, error] {
	first, last := dayOf(from), dayOf(to)
	return func(yield func(Row, error) bool) {
		err := walk(dir, func(day string) bool { return first <= day && day <= last }, func(path string) error {
			name := filepath.Base(path)
			if !strings.HasPrefix(name, partPrefix) || !strings.HasSuffix(name, partSuffix) {
				return nil
			}
			return readFile(path, func(r Row) bool {
				return r.ArrivalTime.Before(from) || !r.ArrivalTime.Before(to) || yield(r, nil)
			})
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Row{}, err)
		}
	}
}

// readFile reads the rows of one file. Its errors name the file.
func readFile(path string, yield func(Row) bool) error {
	f, err := durable.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := limits.Open(f, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s, own, err := schemaOf(p)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := limits.CheckPages(f, p.Size(), p.Metadata()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, g := range p.RowGroups() {
		if err := readGroup(g, s, own, yield); err != nil {
			if errors.Is(err, errStopped) {
				return err
			}
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// limits leave room for what executor writes, and for little more.
var limits = parquetbound.Limits{
	Footer: 1 << 20, Items: 1 << 16,
	Rows:   1 << 20, // a flush writes no more rows than may wait
	Page:   16 << 20,
	Value:  3 * maxText, // each byte may have been replaced by three
	Advice: errBeyond,
}

// errBeyond tells the reader what to do about a file that exceeds a limit.
var errBeyond = errors.New("executor never writes such a file: move it out of the folder and find out where it comes from")

// schemaOf checks the columns of a file, and also returns those before the features.
func schemaOf(p *parquet.File) (_ *Schema, own []column, err error) {
	defer func() { parquetbound.Damaged(&err, recover()) }()
	fields := p.Schema().Fields()
	own = columnsOf(fields)
	if len(fields) < len(own) {
		return nil, nil, fmt.Errorf("%d columns: expected at least %d", len(fields), len(own))
	}
	for i, f := range fields {
		want, name := number(), f.Name()
		if i < len(own) {
			want, name = own[i].node, own[i].name
		}
		if f.Name() != name || !f.Leaf() || f.Repeated() || f.Type().Kind() != want.Type().Kind() || f.Optional() != want.Optional() {
			return nil, nil, fmt.Errorf("column %d is %s %s: expected %s %s", i+1, f.Name(), f, name, want)
		}
	}
	features := make([]string, 0, len(fields)-len(own))
	for _, f := range fields[len(own):] {
		features = append(features, f.Name())
	}
	name, _ := p.Lookup(metaSchema)
	hash, ok := p.Lookup(metaHash)
	if !ok {
		return nil, nil, fmt.Errorf("no %s in the metadata: not written by Greenlight", metaHash)
	}
	s, err := newSchema(name, hash, features)
	return s, own, err
}

func readGroup(g parquet.RowGroup, s *Schema, own []column, yield func(Row) bool) error {
	rows := g.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, readRows)
	for {
		n, err := readSome(rows, buf)
		features := make([]float64, n*len(s.Features))
		for _, values := range buf[:n] {
			if len(values) != len(own)+len(s.Features) {
				return fmt.Errorf("a row of %d values: expected %d", len(values), len(own)+len(s.Features))
			}
			r := Row{Schema: s, Features: features[:len(s.Features):len(s.Features)]}
			features = features[len(s.Features):]
			for i, c := range own {
				c.take(&r, values[i])
			}
			for k := range r.Features {
				r.Features[k] = numberOf(values[len(own)+k])
			}
			if !yield(r) {
				return errStopped
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case n == 0:
			return io.ErrNoProgress
		}
	}
}

func readSome(rows parquet.Rows, buf []parquet.Row) (n int, err error) {
	defer func() { parquetbound.Damaged(&err, recover()) }()
	return rows.ReadRows(buf)
}
