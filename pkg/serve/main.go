package serve

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

// UsageError is the error of a service that did not start because of wrong flags.
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

// Main is the body of a service's main function. It parses the flags that declare registers, creates the logger, runs the
// service and returns the exit code. Every flag can also be an environment variable, prefixed with the service's name. A
// [UsageError] of the service gives ExitUsage.
func Main[O any](ctx context.Context, name string, args []string, stdout, stderr io.Writer,
	declare func(*flag.FlagSet) *O, run func(context.Context, *O, *slog.Logger) error,
) int {
	// Not a flag of the set: its environment variable would be EXECUTOR_VERSION, which people use for other things.
	if slices.ContainsFunc(args, func(a string) bool { return a == "--version" || a == "-version" }) {
		_, _ = fmt.Fprintf(stdout, "%s %s\n", name, telemetry.BuildOf())
		return ExitOK
	}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once, below, without the list of flags
	opts := declare(fs)
	level := fs.String("log-level", "info", "lowest `level` to log: debug, info, warn, error")
	format := fs.String("log-format", "text", "`format` of the log: text, json")
	prefix := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	err := ff.Parse(fs, args, ff.WithEnvVarPrefix(prefix))
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(stderr)
		fs.Bool("version", false, "print the version of the program and exit")
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
	logger, flush := telemetry.Queued(logger) //nolint:contextcheck // it outlives ctx, so that what happens at the end is logged
	err = run(ctx, opts, logger)
	flush()
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
