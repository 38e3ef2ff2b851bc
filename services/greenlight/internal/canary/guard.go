package canary

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// panicError is a panic that was recovered: its value and where it came from.
type panicError struct {
	value any
	where string
}

// Error implements error.
func (e *panicError) Error() string { return fmt.Sprintf("internal error: %v (%s)", e.value, e.where) }

// recovered makes an error of what recover has returned. A panic that passes several goroutines keeps its place.
func recovered(value any) *panicError {
	if err, ok := value.(*panicError); ok {
		return err
	}
	return &panicError{value, panicPlace()}
}

// panicPlace is the file and line that called panic, from a deferred function.
func panicPlace() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
	panicking := false
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicking = panicking || f.Function == "runtime.gopanic"
		case panicking:
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
		if !more {
			return "unknown place"
		}
	}
}

// guard calls fn and returns its panic as an error. A goroutine that ends within fn ends.
func guard(fn func()) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = recovered(value)
		}
	}()
	fn()
	return nil
}
