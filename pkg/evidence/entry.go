package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// entry is one line of the chain: one write of one file.
type entry struct {
	// Seq counts from 1 without gaps.
	Seq uint64 `json:"seq"`
	// Time is RFC 3339 in UTC, in milliseconds. It is not proven: clocks may go back.
	Time   string `json:"time"`
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Prev is the hash of the previous line; 64 zeros in the first.
	Prev string `json:"prev"`
	// Hash is the SHA-256 of the canonical line without it.
	Hash string `json:"hash,omitempty"`
}

const timeLayout = "2006-01-02T15:04:05.000Z"

var firstPrev = strings.Repeat("0", 2*sha256.Size)

// next returns the entry for content that follows e, and its line. The zero entry precedes the first.
func (e entry) next(now time.Time, file string, content []byte) (entry, []byte, error) {
	n := entry{
		Seq: e.Seq + 1, Time: now.UTC().Format(timeLayout), File: file,
		SHA256: Sum(content), Size: int64(len(content)), Prev: e.link(),
	}
	var err error
	if n.Hash, err = n.hash(); err != nil {
		return entry{}, nil, err
	}
	line, err := n.line()
	return n, line, err
}

// link returns the prev of the entry after e.
func (e entry) link() string {
	if e.Seq == 0 {
		return firstPrev
	}
	return e.Hash
}

// line returns the canonical form with its line end. An entry has only one valid form; every other form breaks the
// chain.
func (e entry) line() ([]byte, error) {
	data, err := plainJSON(e)
	if err != nil {
		return nil, fmt.Errorf("chain line %d: %w", e.Seq, err)
	}
	return append(data, '\n'), nil
}

// hash returns the SHA-256 of the line without hash and line end.
func (e entry) hash() (string, error) {
	e.Hash = ""
	data, err := plainJSON(e)
	if err != nil {
		return "", fmt.Errorf("chain line %d: %w", e.Seq, err)
	}
	return Sum(data), nil
}

// parseEntry reads one line with its line end and checks it against the previous entry. The error says what is invalid.
func parseEntry(line []byte, last entry) (entry, error) {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return entry{}, fmt.Errorf("not a chain line: %w", err)
	}
	canonical, err := e.line()
	if err != nil {
		return entry{}, err
	}
	if !bytes.Equal(line, canonical) {
		return entry{}, fmt.Errorf("not the canonical form of a chain line")
	}
	hash, err := e.hash()
	if err != nil {
		return entry{}, err
	}
	switch {
	case e.Hash != hash:
		return entry{}, fmt.Errorf("hash is %s, the line has %s", short(e.Hash), short(hash))
	case e.Seq != last.Seq+1:
		return entry{}, fmt.Errorf("seq is %d, want %d: lines are missing or out of order", e.Seq, last.Seq+1)
	case e.Prev != last.link():
		return entry{}, fmt.Errorf("prev is %s, the line before has hash %s", short(e.Prev), short(last.link()))
	}
	return e, nil
}

// short returns enough of a digest to distinguish two.
func short(sum string) string { return sum[:min(len(sum), 12)] }
