// Package cli is the greenlight command: one file per subcommand, thin over the packages that do the work.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitGate    = 3 // a gate said no: a result, not a crash
)

// ErrGate is what a command returns when all went well and the answer is no. What was wrong has been printed.
var ErrGate = errors.New("a gate said no")

// usageError is a command that was called wrongly.
type usageError struct{ error }

// Usage returns err as that of a command that was called wrongly.
func Usage(err error) error { return usageError{err} }

// hintError adds what to do to what was wrong.
type hintError struct {
	error

	hint string
}

func (e hintError) Unwrap() error { return e.error }

// WithHint adds what to do to an error.
func WithHint(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}

// Console is where a command talks. What it prints may have come from anywhere (a file, a service), so Out and Err replace
// the control characters in it.
type Console struct {
	in  io.Reader
	Out io.Writer // results
	Err io.Writer // everything else

	// screen and bars are the terminals behind Out and Err, for what is drawn with control characters; nil where there is
	// no terminal.
	screen, bars *os.File
}

func newConsole(in io.Reader, out, err io.Writer) Console {
	return Console{in: in, Out: text.NewWriter(out), Err: text.NewWriter(err), screen: terminal(out), bars: terminal(err)}
}

// Say prints a line of results.
func (c Console) Say(format string, args ...any) { _, _ = fmt.Fprintf(c.Out, format+"\n", args...) }

// quiet is the console without results, for work whose results are files.
func (c Console) quiet() Console { return Console{in: c.in, Out: io.Discard, Err: c.Err, bars: c.bars} }

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return Execute(ctx, newRoot, args, stdin, stdout, stderr)
}

// Execute runs the command line of the program that newRoot makes, and returns the exit code.
func Execute(ctx context.Context, newRoot func(Console) *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := newConsole(stdin, stdout, stderr)
	root := newRoot(c)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = telemetry.BuildOf().String()
	root.SetVersionTemplate(root.Name() + " {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	strict(root)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return exitCode(ctx, cmd, err, c.Err)
}

// newRoot makes the command with all its subcommands.
func newRoot(c Console) *cobra.Command {
	root := &cobra.Command{
		Use:   "greenlight",
		Short: "Prove a trading model beside the production heuristic before it may touch an order",
		Long: `Greenlight proves a trading model beside the production heuristic before it may touch an order.

A day's work, in order:
  status                what is served, shadowed and held now
  drift snapshot        how far the inputs have moved
  canary                run a model's shadows on a growing share of the requests
  promote               what blocks the release of a model, and the release
  rollback              the emergency brake

Results go to standard output, everything else to standard error. Commands that call a service take the same flags for a
secured one: --tls-ca, --tls-cert, --tls-key, --tls-server-name, --control-token-file.

Exit codes:
  0  done; every gate said PASS
  1  failed: something could not be reached, read or written
  2  wrong usage: a mistyped command, flag or value
  3  a gate said no: FAIL, INCONCLUSIVE or ERROR`,
	}
	root.AddCommand(
		runCommand(c), simulateCommand(c), trainCommand(c), evalCommand(c), retrainCommand(c), driftCommand(c), canaryCommand(c),
		smokeCommand(c), shadowSmokeCommand(c), replayCommand(c), modelCommand(c), evidenceCommand(c), promoteCommand(c), rolloutCommand(c), rollbackCommand(c), statusCommand(c), reportCommand(c),
		agentCommand(c), feedCommand(c),
	)
	return root
}

// exitCode prints the error of cmd, if there is one, and returns the exit code.
func exitCode(ctx context.Context, cmd *cobra.Command, err error, stderr io.Writer) int {
	var hinted hintError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, ErrGate):
		return exitGate
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, cmd.Root().Name()+": interrupted")
		return exitFailure
	}
	err = suggested(cmd, err)
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", cmd.Root().Name(), err)
	hint := fleet.Hint(err)
	if errors.As(err, &hinted) {
		hint = hinted.hint
	}
	if hint != "" {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	if errors.As(err, new(usageError)) {
		_, _ = fmt.Fprintf(stderr, "%s --help lists its flags and subcommands\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

// NoArgs refuses arguments: everything is a flag.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q: everything is a flag", args[0])}
	}
	return nil
}

// Revision is the commit that the program was built from, or "unknown".
func Revision() string { return telemetry.BuildOf().Commit }

// terminal is w if it is a terminal; nil otherwise.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}
