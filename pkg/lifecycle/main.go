package lifecycle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
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

// Main is the body of a service's main: it parses the flags that declare registers (each of them, with the service's
// name as prefix, also as an environment variable), makes the logger, runs the service and returns the exit code.
func Main[O any](ctx context.Context, name string, args []string, stderr io.Writer,
	declare func(*flag.FlagSet) *O, run func(context.Context, *O, *slog.Logger) error,
) int {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // what is wrong is said once, below, without all flags after it
	opts := declare(fs)
	level := fs.String("log-level", "info", "least `level` that is logged: debug, info, warn, error")
	format := fs.String("log-format", "text", "`format` of the log: text, json")
	prefix := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	err := ff.Parse(fs, args, ff.WithEnvVarPrefix(prefix))
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(stderr)
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
	if err := run(ctx, opts, logger); err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFailure
	}
	return ExitOK
}
