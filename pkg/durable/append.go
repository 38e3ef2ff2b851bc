package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Appender adds to the end of a file, all of it or nothing: whoever appends again, after a disk that was full has room,
// does not stand behind a part. Only a kill leaves one, at the very end, which readers of such files have to expect. It is
// not safe for concurrent use.
type Appender struct {
	file file
	// end is where the last whole addition ends, torn says that something may be behind it.
	end  int64
	torn bool
}

// file is what appending takes of an [os.File].
type file interface {
	io.Writer
	Sync() error
	Truncate(size int64) error
}

// AppendTo appends to a file that was opened with O_APPEND, behind its first end bytes. What is there behind them, as a
// kill leaves it, is removed.
func AppendTo(f *os.File, end int64) (*Appender, error) {
	a := &Appender{file: f, end: end}
	if err := a.mend(); err != nil {
		return nil, err
	}
	return a, nil
}

// Append adds the data, which are on disk when it returns. After an error nothing was added.
func (a *Appender) Append(data []byte) error {
	if a.torn {
		if err := a.mend(); err != nil {
			return fmt.Errorf("take back what an earlier write left: %w", err)
		}
	}
	_, err := a.file.Write(data)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		a.torn = true
		return errors.Join(err, a.mend())
	}
	a.end += int64(len(data))
	return nil
}

// mend removes what is behind the last whole addition.
func (a *Appender) mend() error {
	if err := errors.Join(a.file.Truncate(a.end), a.file.Sync()); err != nil {
		a.torn = true
		return err
	}
	a.torn = false
	return nil
}
