package fleet

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// panicError is a recovered panic: its value and its place in the code.
type panicError struct {
	value any
	where string
}

// Error implements error.
func (e *panicError) Error() string { return fmt.Sprintf("internal error: %v (%s)", e.value, e.where) }

// recovered returns the panic as an error. A panic that passes several goroutines keeps its place.
func recovered(value any) *panicError {
	if err, ok := value.(*panicError); ok {
		return err
	}
	return &panicError{value, panicPlace()}
}

// panicPlace returns the file and line that called panic. Call it from a deferred function.
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

// Guard calls fn and returns its panic as an error. runtime.Goexit within fn ends the goroutine.
func Guard(fn func()) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = recovered(value)
		}
	}()
	fn()
	return nil
}

// Each calls fn concurrently for all elements, waits, and returns the results and errors in the same order. A panic in fn
// becomes an error: see [Rethrow].
func Each[T, R any](all []T, fn func(T) (R, error)) ([]R, []error) {
	answers, errs := make([]R, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() {
			if err := Guard(func() { answers[i], errs[i] = fn(one) }); err != nil {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return answers, errs
}

// Rethrow panics again if one of the errors is a panic that [Each] or [Guard] has recovered.
func Rethrow(errs ...error) {
	if broken := (*panicError)(nil); errors.As(errors.Join(errs...), &broken) {
		panic(broken) //nolint:forbidigo // passes on a panic from another goroutine
	}
}
