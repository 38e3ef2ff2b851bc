package answer

import (
	"fmt"
	"slices"
)

// TwiceError is one process that answers under two names, so that it would count twice.
type TwiceError struct {
	// What is the kind of service, A and B are the two names, Process is the identity that both have.
	What, A, B, Process string
}

// Error implements error.
func (e *TwiceError) Error() string {
	return fmt.Sprintf("%ss %s and %s are one process (%s): it would count twice", e.What, e.A, e.B, shown(e.Process))
}

// Distinct returns a [*TwiceError] if two of the names have one process. An empty process is not known.
func Distinct(what string, names, processes []string) error {
	for i, p := range processes {
		if j := slices.Index(processes, p); p != "" && j < i {
			return &TwiceError{what, names[j], names[i], p}
		}
	}
	return nil
}
