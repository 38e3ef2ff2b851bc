package evidence

import (
	"fmt"
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
