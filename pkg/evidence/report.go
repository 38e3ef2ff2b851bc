package evidence

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Report is what Verify found.
type Report struct {
	Dir string `json:"dir"`
	// Lines is the number of lines of the chain that hold, Files the number of files whose content they say.
	Lines int `json:"lines"`
	Files int `json:"files"`
	// Head is the hash of the newest line. It stands for the whole folder: written down elsewhere, it shows later
	// whether the folder was made anew.
	Head string `json:"head"`
	// Problems is all that does not hold, in the order: chain, files by name, files that are not in the chain, inputs.
	Problems []Problem `json:"problems"`
	// Stale names files computed from an older version of another file of the folder, whose digest is in the chain: true
	// when they were written, and not to be computed again from what is there now. It is not a problem.
	Stale []Problem `json:"stale"`
	// Ignored names files that file managers and editors leave in any folder. They are not in the chain, so they are no
	// evidence, and nothing reads them. It is not a problem.
	Ignored []Problem `json:"ignored"`

	// hashes are those of all lines, oldest first.
	hashes []string
}

// minHead is how many digits of a head name it at least.
const minHead = 12

// CheckHead returns an error if s cannot be a head of a chain: the SHA-256 in hexadecimal, or its first 12 digits or more.
func CheckHead(s string) error {
	if len(s) < minHead || len(s) > 2*sha256.Size || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is not the head of a chain: want what greenlight evidence verify printed, all 64 hexadecimal digits or the first %d at least", text.Clean(s, 80), minHead)
	}
	return nil
}

// Pin adds a problem unless the newest line of the chain has the hash head, or one that begins with it. It finds lines that
// were removed from the end of the chain, and a folder that was made again, which the folder alone cannot show.
func (r *Report) Pin(head string) {
	if err := CheckHead(head); err != nil {
		r.problem(chainName, 0, "%v", err)
		return
	}
	if strings.HasPrefix(r.Head, head) {
		return
	}
	for i, hash := range r.hashes {
		if strings.HasPrefix(hash, head) {
			r.problem(chainName, i+1, "has the head %s that was asked for: %s written since", short(head), lines(len(r.hashes)-i-1))
			return
		}
	}
	r.problem(chainName, 0, "has no line with the head %s that was asked for: lines were removed, or the folder was made again; its head is %s",
		short(head), short(r.Head))
}

func lines(n int) string {
	if n == 1 {
		return "1 line was"
	}
	return fmt.Sprintf("%d lines were", n)
}

// Problem is one thing that does not hold.
type Problem struct {
	// File is relative to the folder.
	File string `json:"file"`
	// Line is the line of the file, where it is about one; otherwise 0.
	Line int    `json:"line,omitempty"`
	What string `json:"what"`
}

// String is "file line 3: what" or "file: what".
func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s line %d: %s", p.File, p.Line, p.What)
	}
	return p.File + ": " + p.What
}

// OK reports whether everything holds. An empty folder is not OK: there is nothing in it that could hold.
func (r Report) OK() bool { return len(r.Problems) == 0 && r.Lines > 0 }

// Err is nil if everything holds, otherwise an ErrBroken with the first thing that does not.
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
