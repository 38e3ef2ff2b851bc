package featurelog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/parquetbound"
)

// readRows is how many rows are read at a time.
const readRows = 512

// errStopped reports that the receiver wants no more rows.
var errStopped = errors.New("stopped")

// Log is a log to read: the folder that an executor writes, or a folder with such a folder executor=<id> for each of several
// executors.
type Log struct {
	// Dir is the folder.
	Dir string
	// Origin is where its files come from; Dir if empty. Evidence and messages name the log by it.
	Origin string
}

// String returns the name of the log.
func (l Log) String() string { return cmp.Or(l.Origin, l.Dir) }

// Days returns the UTC days for which the log has a folder, in ascending order.
func (l Log) Days() ([]time.Time, error) {
	names, err := daysOf(l.Dir)
	if err != nil {
		return nil, fmt.Errorf("feature log: %w", err)
	}
	var days []time.Time
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if day, err := time.Parse(time.DateOnly, name); err == nil {
			days = append(days, day)
		}
	}
	return days, nil
}

// Exists reports whether the folder is a log.
func (l Log) Exists() bool {
	days, err := l.Days()
	return err == nil && len(days) > 0
}

// Parts yields the parts of the days in [from, to], in order of day, schema, name and executor. A missing folder yields an
// error, and so does a part that two executors have: its rows would count twice. Then it ends.
func (l Log) Parts(from, to time.Time) iter.Seq2[Part, error] {
	first, last := dayOf(from), dayOf(to)
	return func(yield func(Part, error) bool) {
		var before Part
		err := walk(l.Dir, func(day string) bool { return first <= day && day <= last }, func(p Part) error {
			if !p.complete() {
				return nil
			}
			if before.Day == p.Day && before.schema == p.schema && before.name == p.name {
				return fmt.Errorf("%s: %s and %s are the same part, and its rows would count twice: remove one", l, before.Path(), p.Path())
			}
			before = p
			if !yield(p, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Part{}, err)
		}
	}
}

// Read yields the rows that arrived in [from, to), in the order of [Log.Parts], and within a file in the order of logging. The
// receiver owns the rows; rows of one file share their Schema. A missing folder, and a damaged or foreign file, yields an error
// that names it, and then ends. Files with temporary names are skipped.
func (l Log) Read(from, to time.Time) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if err := l.ReadByExecutor(from, to, func(_ string, r Row) bool { return yield(r, nil) }); err != nil {
			yield(Row{}, err)
		}
	}
}

// ReadByExecutor is like [Log.Read], but calls visit with the folder of the executor that wrote the row, which is empty for the
// log of one executor. It ends when visit returns false.
func (l Log) ReadByExecutor(from, to time.Time, visit func(executor string, r Row) bool) error {
	for p, err := range l.Parts(from, to) {
		if err == nil {
			err = readFile(filepath.Join(l.Dir, p.Path()), func(r Row) bool {
				return r.ArrivalTime.Before(from) || !r.ArrivalTime.Before(to) || visit(p.executor, r)
			})
		}
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Inputs returns the parts of the days in [from, to), which are midnights, with their digests.
func (l Log) Inputs(from, to time.Time) ([]evidence.Input, error) {
	inputs := []evidence.Input{}
	for p, err := range l.Parts(from, to.Add(-1)) {
		if err != nil {
			return nil, fmt.Errorf("feature log: %w", err)
		}
		in, err := evidence.InputOf(filepath.Join(l.Dir, p.Path()))
		if err != nil {
			return nil, fmt.Errorf("feature log: %w", err)
		}
		if l.Origin != "" {
			in.Path = l.Origin + "/" + p.Path()
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

// Read is [Log.Read] of a folder.
func Read(dir string, from, to time.Time) iter.Seq2[Row, error] { return Log{Dir: dir}.Read(from, to) }

// ErrGrowing is returned for a part that its executor may still replace with a longer one.
var ErrGrowing = errors.New("its executor may still add rows")

// OpenPart opens a part, to copy it. It returns [ErrGrowing] if the part is not complete yet. A damaged or foreign file is a
// [DamagedError].
func (l Log) OpenPart(part Part) (*os.File, error) {
	path := filepath.Join(l.Dir, part.Path())
	f, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	if err := checkPart(f, path, part.Day); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// DamagedError is returned for a part that is not a file of a feature log. Reading it again does not help.
type DamagedError struct {
	path string
	err  error
}

// Error implements error.
func (e *DamagedError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.err }

// checkPart returns an error unless the file is a part that no executor will replace: it is not locked, and it is still the one
// with the path. Executors of older versions do not lock their parts; those are complete a day after the end of their own.
func checkPart(f *os.File, path, day string) error {
	if err := durable.RLock(f, 0); errors.Is(err, durable.ErrOwned) {
		return ErrGrowing
	} else if err != nil {
		return fmt.Errorf("cannot determine whether executor still writes the part: %w", err)
	}
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, now) {
		return ErrGrowing // a locked file replaced it before the lock
	}
	p, err := limits.Open(f, info.Size())
	if err == nil {
		_, _, err = schemaOf(p)
	}
	switch {
	case errors.As(err, new(syscall.Errno)): // it could not be read
		return fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return &DamagedError{path, err}
	}
	if writer, _ := p.Lookup(metaWriter); writer != locks && day >= dayOf(time.Now().AddDate(0, 0, -1)) {
		return ErrGrowing
	}
	return nil
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
