package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Appender appends to a file, all or nothing: after a full disk has space again, the next record does not follow a partial
// one. Only a kill leaves a partial record, at the very end, and readers must expect that. Appender is not safe for
// concurrent use.
type Appender struct {
	file file
	name string
	// end is the end of the last complete record; torn is set if something may follow it.
	end  int64
	torn bool
}

// file is the part of [os.File] that appending needs.
type file interface {
	io.Writer
	Sync() error
	Truncate(size int64) error
}

// onDisk is an [os.File] with the Sync of this package, which tests can make fail.
type onDisk struct{ *os.File }

func (f onDisk) Sync() error { return Sync(f.File) }

// AppendTo returns an appender for a file that was opened with O_APPEND. It keeps the first end bytes and removes the rest,
// which a kill may have left.
func AppendTo(f *os.File, end int64) (*Appender, error) {
	a := &Appender{file: onDisk{f}, name: f.Name(), end: end}
	if err := a.repair(); err != nil {
		return nil, err
	}
	return a, nil
}

// Append appends the data, which are on disk when it returns. After an error nothing was added, unless it is an
// [UnsureError]: then all or part of the data may be in the file until the next Append removes them.
func (a *Appender) Append(data []byte) error {
	if a.torn {
		if err := a.repair(); err != nil {
			return fmt.Errorf("remove what an earlier write left: %w", err)
		}
	}
	_, err := a.file.Write(data)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		a.torn = true
		return errors.Join(err, unsure(a.name, a.repair()))
	}
	a.end += int64(len(data))
	return nil
}

// repair removes everything after the last complete record.
func (a *Appender) repair() error {
	if err := errors.Join(a.file.Truncate(a.end), a.file.Sync()); err != nil {
		a.torn = true
		return err
	}
	a.torn = false
	return nil
}
