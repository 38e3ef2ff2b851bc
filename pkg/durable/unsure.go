package durable

import (
	"errors"
	"fmt"
	"os"

	"github.com/greenlight-ml/greenlight/pkg/internal/fault"
)

// UnsureError is the error of a write that failed after the new content was in place. Readers may see the new content, and a
// power cut may bring back the old content. After any other write error the old content is in place.
type UnsureError struct {
	// Path is the file or folder that was being changed.
	Path string
	Err  error
}

// Error implements error.
func (e *UnsureError) Error() string {
	return fmt.Sprintf("%s was changed, but the change may not survive a power cut: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *UnsureError) Unwrap() error { return e.Err }

// Unsure reports whether the failed write may have taken effect.
func Unsure(err error) bool {
	var unsure *UnsureError
	return errors.As(err, &unsure)
}

// unsure returns err, from the step that makes a change durable, as an UnsureError; nil stays nil.
func unsure(path string, err error) error {
	if err == nil {
		return nil
	}
	return &UnsureError{Path: path, Err: err}
}

// Sync flushes the file or folder to disk. Every durable write calls it, so that tests can make it fail: see package
// durabletest.
func Sync(f *os.File) error {
	if hook := fault.Sync.Load(); hook != nil {
		if err := (*hook)(f); err != nil {
			return err
		}
	}
	return f.Sync()
}
