package evidence

import (
	"bytes"
	"fmt"
)

// chain is the content of chain.jsonl.
type chain struct {
	entries []entry
	// tail is what follows the last line end: a torn append, or nothing.
	tail []byte
	// newest holds the last entry of each file.
	newest map[string]entry
}

// lineError names the first invalid line of the chain.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s line %d: %v", chainName, e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// parseChain reads the lines up to the first invalid one, which it returns as a *lineError. It also returns the chain
// before that line.
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

// last returns the newest entry, or the zero entry for an empty chain.
func (c *chain) last() entry {
	if len(c.entries) == 0 {
		return entry{}
	}
	return c.entries[len(c.entries)-1]
}

// lastLine returns the newest line, or nil for an empty chain.
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
