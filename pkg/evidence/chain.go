package evidence

import (
	"bytes"
	"fmt"
)

// chain is what chain.jsonl holds.
type chain struct {
	entries []entry
	// tail is what follows the last line end: a torn append, or nothing.
	tail []byte
	// newest has the last entry of each file.
	newest map[string]entry
}

// lineError says which line of the chain does not hold.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s line %d: %v", chainName, e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// parseChain reads the lines up to the first that does not hold, which is a *lineError. The chain before it is returned
// as well.
func parseChain(data []byte) (chain, error) {
	c := chain{newest: map[string]entry{}}
	for n := 1; len(data) > 0; n++ {
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			c.tail = data
			return c, nil
		}
		e, err := parseEntry(data[:end], c.last())
		if err != nil {
			return c, &lineError{n, err}
		}
		c.add(e)
		data = data[end:]
	}
	return c, nil
}

// last is the newest entry; the zero entry of an empty chain.
func (c *chain) last() entry {
	if len(c.entries) == 0 {
		return entry{}
	}
	return c.entries[len(c.entries)-1]
}

// lastLine is the newest line; nil of an empty chain.
func (c *chain) lastLine() ([]byte, error) {
	if len(c.entries) == 0 {
		return nil, nil
	}
	return c.last().line()
}

func (c *chain) add(e entry) {
	c.entries = append(c.entries, e)
	c.newest[e.File] = e
}

// had reports whether any entry of file, old or new, has the digest.
func (c *chain) had(file, sum string) bool {
	for _, e := range c.entries {
		if e.File == file && e.SHA256 == sum {
			return true
		}
	}
	return false
}
