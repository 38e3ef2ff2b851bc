package lifecycle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/peterbourgon/ff/v3"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Exit codes of every program.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
)

// UsageError is the error of a service whose flags are wrong, so that it was not started.
type UsageError struct{ Err error }

// Error implements error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usage returns err as a [UsageError]; nil stays nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &UsageError{err}
}

// Main is the body of a service's main: it parses the flags that declare registers (each of them, with the service's
// name as prefix, also as an environment variable), makes the logger, runs the service and returns the exit code. A
// [UsageError] of the service is wrong usage.
func Main[O any](ctx context.Context, name string, args []string, stdout, stderr io.Writer,
	declare func(*flag.FlagSet) *O, run func(context.Context, *O, *slog.Logger) error,
) int {
	// Not a flag of the set: it would also be an environment variable, EXECUTOR_VERSION, which people use for other things.
	if slices.ContainsFunc(args, func(a string) bool { return a == "--version" || a == "-version" }) {
		_, _ = fmt.Fprintf(stdout, "%s %s\n", name, telemetry.BuildOf())
		return ExitOK
	}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // what is wrong is said once, below, without all flags after it
	opts := declare(fs)
	level := fs.String("log-level", "info", "least `level` that is logged: debug, info, warn, error")
	format := fs.String("log-format", "text", "`format` of the log: text, json")
	prefix := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	err := ff.Parse(fs, args, ff.WithEnvVarPrefix(prefix))
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(stderr)
		fs.Bool("version", false, "print what the program was built from, and end")
		fs.Usage()
		return ExitOK
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: everything is a flag", fs.Arg(0))
	}
	logger, logErr := telemetry.NewLogger(stderr, *level, *format)
	if err = errors.Join(err, logErr); err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n%s -h lists the flags\n", name, err, name)
		return ExitUsage
	}
	boundGarbage()
	err = run(ctx, opts, logger)
	var usage *UsageError
	switch {
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(stderr, "%s: %v\n%s -h lists the flags\n", name, err, name)
		return ExitUsage
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFailure
	}
	return ExitOK
}
