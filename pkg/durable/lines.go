package durable

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
)

// Lines appends lines to a file, each whole or not at all: if a full disk cut a line short, the next append first removes the
// rest. Only a kill leaves a partial line, at the very end, and [ReadLines] ignores it. Lines is not safe for concurrent use,
// and a file must have one writer at a time.
type Lines struct {
	file file
	name string
	// end is the end of the last whole line; torn is set if something may follow it.
	end  int64
	torn bool
}

// file is the part of [os.File] that appending needs.
type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// onDisk is an [os.File] with the Sync of this package, which tests can make fail.
type onDisk struct{ *os.File }

func (f onDisk) Sync() error { return Sync(f.File) }

// OpenLines opens a file for appending, or creates it. longest limits the length of a line, in bytes. It removes an
// unterminated last line, which a kill cut short.
func OpenLines(path string, longest int64) (*Lines, error) {
	f, err := OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	l := &Lines{file: onDisk{f}, name: path}
	if l.end, err = lastLineEnd(f, longest); err == nil {
		err = errors.Join(SyncDir(filepath.Dir(path)), l.repair())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// lastLineEnd returns where the last whole line ends. Less than a line follows it.
func lastLineEnd(f *os.File, longest int64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	start := max(0, info.Size()-longest)
	raw := make([]byte, info.Size()-start)
	if _, err := f.ReadAt(raw, start); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	end := bytes.LastIndexByte(raw, '\n')
	if end < 0 && start > 0 {
		return 0, fmt.Errorf("%s: no line ends in the last %d bytes: it is another kind of file", f.Name(), longest)
	}
	return start + int64(end) + 1, nil
}

// Append adds a line, which ends in a line feed and is on disk when Append returns. After an error nothing was added, unless
// it is an [UnsureError]: then all or part of the line may be in the file until the next Append removes it.
func (l *Lines) Append(line []byte) error {
	if l.torn {
		if err := l.repair(); err != nil {
			return fmt.Errorf("remove the rest of an earlier write: %w", err)
		}
	}
	_, err := l.file.Write(line)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.torn = true
		return errors.Join(err, unsure(l.name, l.repair()))
	}
	l.end += int64(len(line))
	return nil
}

// repair removes everything after the last whole line.
func (l *Lines) repair() error {
	if err := errors.Join(l.file.Truncate(l.end), l.file.Sync()); err != nil {
		l.torn = true
		return err
	}
	l.torn = false
	return nil
}

// Close closes the file.
func (l *Lines) Close() error { return l.file.Close() }

// ReadLines returns the whole lines of a file, without their line feeds. It holds one line in memory at a time. An
// unterminated last line is being written, or was cut short by a kill, and is skipped. After an error, which names the line,
// it ends.
func ReadLines(path string, longest int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		f, err := Open(path)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, longest)
		lines.Split(wholeLines)
		n := 1
		for ; lines.Scan(); n++ {
			if !yield(lines.Bytes(), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, fmt.Errorf("%s line %d: %w", path, n, err))
		}
	}
}

// wholeLines is [bufio.ScanLines], but drops an unterminated last line.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if atEOF && bytes.IndexByte(data, '\n') < 0 {
		return len(data), nil, nil
	}
	return bufio.ScanLines(data, atEOF)
}
