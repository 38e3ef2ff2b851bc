package evidence

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Report is the result of Verify.
type Report struct {
	Dir string `json:"dir"`
	// Lines is the number of valid lines of the chain, Files the number of files they describe.
	Lines int `json:"lines"`
	Files int `json:"files"`
	// Head is the hash of the newest line. It identifies the whole folder: a copy kept elsewhere later shows whether
	// the folder was rebuilt.
	Head string `json:"head"`
	// Problems lists everything that does not verify, in the order: chain, files by name, files that are not in the
	// chain, inputs.
	Problems []Problem `json:"problems"`
	// Stale names files computed from an older version of another file of the folder, whose digest is in the chain.
	// They were correct when written, but cannot be recomputed from the current files. This is not a problem.
	Stale []Problem `json:"stale"`
	// Ignored names files that file managers and editors leave in any folder. They are not in the chain, are not
	// evidence, and nothing reads them. This is not a problem.
	Ignored []Problem `json:"ignored"`

	// entries are all valid lines, oldest first.
	entries []entry
}

// Written returns the files of the chain, with the number of the newest line about each.
func (r *Report) Written() map[string]int {
	newest := map[string]int{}
	for i, e := range r.entries {
		newest[e.File] = i + 1
	}
	return newest
}

// minHead is the fewest digits that identify a head.
const minHead = 12

// CheckHead returns an error if s cannot be the head of a chain: at least the first 12 hexadecimal digits of a SHA-256.
func CheckHead(s string) error {
	if len(s) < minHead || len(s) > 2*sha256.Size || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is not the head of a chain: want the head that greenlight evidence verify printed, all 64 hexadecimal digits or at least the first %d", text.Clean(s, 80), minHead)
	}
	return nil
}

// Pin adds a problem unless the newest line of the chain has the hash head, or one that starts with it. It detects
// lines removed from the end of the chain, and a rebuilt folder, which the folder alone cannot show.
func (r *Report) Pin(head string) {
	if err := CheckHead(head); err != nil {
		r.problem(chainName, 0, "%v", err)
		return
	}
	if strings.HasPrefix(r.Head, head) {
		return
	}
	for i, e := range r.entries {
		if strings.HasPrefix(e.Hash, head) {
			r.problem(chainName, i+1, "has the requested head %s: %s written since", short(head), lines(len(r.entries)-i-1))
			return
		}
	}
	r.problem(chainName, 0, "has no line with the requested head %s: lines were removed, or the folder was rebuilt; its head is %s",
		short(head), short(r.Head))
}

func lines(n int) string {
	if n == 1 {
		return "1 line was"
	}
	return fmt.Sprintf("%d lines were", n)
}

// Problem is one thing that does not verify.
type Problem struct {
	// File is relative to the folder.
	File string `json:"file"`
	// Line is the line number in the file, or 0 if the problem is not about a line.
	Line int    `json:"line,omitempty"`
	What string `json:"what"`
}

// String returns "file line 3: what" or "file: what".
func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s line %d: %s", p.File, p.Line, p.What)
	}
	return p.File + ": " + p.What
}

// OK reports whether everything verifies. An empty folder is not OK: there is nothing to verify.
func (r Report) OK() bool { return len(r.Problems) == 0 && r.Lines > 0 }

// Err returns nil if everything verifies, otherwise an ErrBroken with the first problem.
func (r Report) Err() error {
	switch {
	case r.OK():
		return nil
	case len(r.Problems) == 0:
		return fmt.Errorf("%w: nothing was verified", ErrBroken)
	default:
		return fmt.Errorf("%w: %s", ErrBroken, r.Problems[0])
	}
}

func (r *Report) problem(file string, line int, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{file, line, fmt.Sprintf(format, args...)})
}
