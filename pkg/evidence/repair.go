package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// repair completes whatever a kill interrupted, and returns the newest entry. Each of its steps may be interrupted as
// well: the next repair continues.
func repair(f folder, now func() time.Time, s seals) (entry, error) {
	data, err := f.read(chainName)
	if err != nil {
		return entry{}, err
	}
	c, err := parseChain(data)
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	lines := slices.Clip(data[:len(data)-len(c.tail)])
	if lines, err = completeWrite(f, &c, lines); err != nil {
		return entry{}, err
	}
	if data == nil && len(lines) == 0 { // the folder is new
		if err := f.replace(chainName, nil); err != nil {
			return entry{}, err
		}
	}
	if len(c.tail) > 0 {
		if err := setAside(f, &c, lines, now(), s); err != nil {
			return entry{}, err
		}
	}
	return c.last(), sweep(f)
}

// completeWrite performs the remaining steps of the write in chain.head, if any, and returns the complete lines of the
// chain.
func completeWrite(f folder, c *chain, lines []byte) ([]byte, error) {
	head, err := f.read(headName)
	if err != nil {
		return nil, err
	}
	last, err := c.lastLine()
	if err != nil {
		return nil, err
	}
	if bytes.Equal(head, last) {
		return lines, nil
	}
	e, err := parseEntry(head, c.last())
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not follow line %d of %s: %w", ErrBroken, headName, len(c.entries), chainName, err)
	}
	if err := completeFile(f, e); err != nil {
		return nil, err
	}
	// The torn line is explained if it is the start of this one, or if this one is about the file it was moved to.
	if bytes.HasPrefix(head, c.tail) || e.SHA256 == Sum(c.tail) && path.Dir(e.File) == tornDir {
		c.tail = nil
	}
	c.add(e)
	lines = append(lines, head...)
	return lines, f.replace(chainName, slices.Concat(lines, c.tail))
}

// completeFile makes sure that the content of e has its final name.
func completeFile(f folder, e entry) error {
	for _, name := range []string{e.File, durable.Temporary(e.File)} {
		sum, _, err := f.digest(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case sum == e.SHA256 && name == e.File:
			return nil
		case sum == e.SHA256:
			return f.publish(e.File)
		}
	}
	return fmt.Errorf("%w: %s has line %d about %s, but its content is missing", ErrBroken, headName, e.Seq, e.File)
}

// setAside moves the torn end of the chain to its own file, which becomes part of the chain.
func setAside(f folder, c *chain, lines []byte, now time.Time, s seals) error {
	name := fmt.Sprintf("%s/chain-%d.txt", tornDir, c.last().Seq+1)
	e, line, err := c.last().next(now, name, c.tail)
	if err != nil {
		return err
	}
	if err := errors.Join(f.replace(name, c.tail), s.sign(line)); err != nil {
		return err
	}
	if err := f.replace(headName, line); err != nil {
		return err
	}
	c.add(e)
	return f.replace(chainName, slices.Concat(lines, line))
}

// sweep removes temporary files. Committed writes are complete by now; the others do not count.
func sweep(f folder) error {
	var left []string
	err := f.files(func(name string) error {
		if isTemp(name) {
			left = append(left, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := f.root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
