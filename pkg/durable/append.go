package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Appender adds to the end of a file, all of it or nothing: after a disk that was full has room, the next addition does not
// follow a part of the last one. Only a kill leaves a part, at the very end, which readers of such files have to expect. It
// is not safe for concurrent use.
type Appender struct {
	file file
	name string
	// end is where the last whole addition ends; torn reports that something may follow it.
	end  int64
	torn bool
}

// file is what appending takes of an [os.File].
type file interface {
	io.Writer
	Sync() error
	Truncate(size int64) error
}

// onDisk is an [os.File] whose Sync tests can make fail.
type onDisk struct{ *os.File }

func (f onDisk) Sync() error { return Sync(f.File) }

// AppendTo appends to a file that was opened with O_APPEND, behind its first end bytes. What is there behind them, as a
// kill leaves it, is removed.
func AppendTo(f *os.File, end int64) (*Appender, error) {
	a := &Appender{file: onDisk{f}, name: f.Name(), end: end}
	if err := a.repair(); err != nil {
		return nil, err
	}
	return a, nil
}

// Append adds the data, which are on disk when it returns. After an error nothing was added, unless it is an [UnsureError]:
// then all or a part of the data may be in the file, until the next Append removes them.
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

// repair removes what follows the last whole addition.
func (a *Appender) repair() error {
	if err := errors.Join(a.file.Truncate(a.end), a.file.Sync()); err != nil {
		a.torn = true
		return err
	}
	a.torn = false
	return nil
}
