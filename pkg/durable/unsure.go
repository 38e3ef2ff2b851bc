package durable

import (
	"errors"
	"fmt"
	"os"

	"github.com/greenlight-ml/greenlight/pkg/internal/fault"
)

// UnsureError is the error of a write that failed after its result was in place. Readers may see the new content, and a
// power cut may bring back the old one. Every other error of a write means that the old content is there.
type UnsureError struct {
	// Path is the file or folder that was being changed.
	Path string
	Err  error
}

// Error implements error.
func (e *UnsureError) Error() string {
	return fmt.Sprintf("%s was changed, but that may not survive a power cut: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *UnsureError) Unwrap() error { return e.Err }

// Unsure reports whether the failed write may have taken effect.
func Unsure(err error) bool {
	var unsure *UnsureError
	return errors.As(err, &unsure)
}

// unsure is an error of the step that makes a change durable; nil stays nil.
func unsure(path string, err error) error {
	if err == nil {
		return nil
	}
	return &UnsureError{Path: path, Err: err}
}

// Sync puts the file or folder on disk. Everything that promises to survive a power cut calls it, so that tests can make it
// fail: see package durabletest.
func Sync(f *os.File) error {
	if hook := fault.Sync.Load(); hook != nil {
		if err := (*hook)(f); err != nil {
			return err
		}
	}
	return f.Sync()
}
