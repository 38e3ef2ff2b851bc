// Package console has what all commands of a command line share: where they read and print, how errors are shown, and the exit
// codes. The programs greenlight and greenlight-lab share it.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/natswitness"
)

// Exit codes.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
	ExitGate    = 3 // a gate said no: a result, not a crash
)

// ErrGate is the error of a command that ran successfully and whose answer is no. The command has printed the reason.
var ErrGate = errors.New("a gate said no")

// usageError is the error of an invalid command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage marks err as the error of an invalid command line.
func Usage(err error) error { return usageError{err} }

// Usagef is like [fmt.Errorf], for the error of an invalid command line.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hintError is an error with a hint on what to do.
type hintError struct {
	error

	hint string
}

func (e hintError) Unwrap() error { return e.error }

// WithHint adds a hint on what to do to an error.
func WithHint(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}

// Advised adds the hint to err, unless err is nil or the hint is empty.
func Advised(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return hintError{err, hint}
}

// Console is where a command reads and prints. What it prints may come from files and services, so Out and Err replace
// control characters.
type Console struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // everything else

	// Screen is the terminal behind Out, for drawings with control characters; nil if there is no terminal.
	Screen *os.File
	// Seal protects the evidence that commands write. It is set by flags.
	Seal *evidence.Seal
	// bars is the terminal behind Err.
	bars *os.File
	// output is the format of the results.
	output *output
}

// Say prints a line of results.
func (c Console) Say(format string, args ...any) { _, _ = fmt.Fprintf(c.Out, format+"\n", args...) }

// Quiet returns a console that discards results, for work whose results are files.
func (c Console) Quiet() Console {
	return Console{In: c.In, Out: io.Discard, Err: c.Err, Seal: c.Seal, bars: c.bars, output: c.output}
}

// Indented prints the output of write, indented by ten spaces to fit below the line of a stage.
func (c Console) Indented(write func(io.Writer) error) error {
	return write(&indenter{w: c.Out, start: true})
}

// indenter indents every line by ten spaces.
type indenter struct {
	w     io.Writer
	start bool
}

// Write implements io.Writer.
func (i *indenter) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+64)
	for _, b := range p {
		if i.start && b != '\n' {
			out = append(out, "          "...)
		}
		out, i.start = append(out, b), b == '\n'
	}
	if _, err := i.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Progress returns a function that draws a progress bar on standard error, if that is a terminal. A call with done == total
// ends the bar.
func (c Console) Progress(what string) func(done, total int) {
	if c.bars == nil {
		return func(int, int) {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total int) {
		if bar == nil {
			bar = progressbar.NewOptions(total,
				progressbar.OptionSetWriter(c.bars), progressbar.OptionSetDescription(what),
				progressbar.OptionSetWidth(30), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
				progressbar.OptionSetPredictTime(true))
		}
		if bar.GetMax() != total {
			bar.ChangeMax(total)
		}
		_ = bar.Set(done) // a bar that cannot be drawn does not matter
	}
}

// Verdict prints the scorecard. It returns [ErrGate] unless the verdict is PASS.
func (c Console) Verdict(card gate.Scorecard) error {
	if err := errors.Join(card.Table(c.Out), c.json(verdictSchema, verdict{card.Verdict(), card.Results})); err != nil {
		return err
	}
	if !card.Verdict().OK() {
		return ErrGate
	}
	return nil
}

// Run runs the command line of the program that newRoot returns, and returns the exit code. environ may set flags that are not
// on the command line: see [EnvironmentName].
func Run(ctx context.Context, newRoot func(Console) *cobra.Command, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	checked := &checkedWriter{to: stdout}
	out := &output{format: outputText, text: text.NewWriter(checked), stdout: checked}
	c := Console{In: stdin, Out: out, Err: text.NewWriter(stderr), Screen: terminal(stdout), Seal: &evidence.Seal{}, bars: terminal(stderr), output: out}
	root := newRoot(c)
	declareSeal(root.PersistentFlags(), c.Seal)
	others := newSettings(environ)
	others.declare(root.PersistentFlags())
	out.declare(root.PersistentFlags())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if slices.Contains([]string{"help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, cmd.Name()) || cmd.Parent() != nil && cmd.Parent().Name() == "completion" {
			return nil
		}
		return errors.Join(others.apply(cmd), out.check(cmd))
	}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = telemetry.BuildOf().String()
	root.SetVersionTemplate(root.Name() + " {{.Version}}\n")
	root.SetOut(out.text) // help and completions, which are no JSON, whatever --output says
	root.SetErr(c.Err)
	strict(root)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := checked.Err(); lost != nil && (err == nil || errors.Is(err, ErrGate)) {
		err = fmt.Errorf("the results are incomplete: %w", lost)
	}
	return exitCode(ctx, cmd, err, c.Err)
}

// checkedWriter keeps the first error of a writer, since not every print is checked. It is safe for concurrent use if to is.
type checkedWriter struct {
	to  io.Writer
	err atomic.Pointer[error]
}

// Write implements io.Writer.
func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		w.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Err returns the first error of a write.
func (w *checkedWriter) Err() error {
	if err := w.err.Load(); err != nil {
		return *err
	}
	return nil
}

// declareSeal declares the flags that protect evidence.
func declareSeal(fs *pflag.FlagSet, seal *evidence.Seal) {
	fs.Func("evidence-key", "PEM `file` with the private key that signs every line of the evidence chain; greenlight model keygen creates one", func(path string) (err error) {
		seal.Signer, err = dsse.ReadSigner(path)
		return err
	})
	fs.Func("evidence-witness", "second `place` for the head of the evidence chain: file:path, an http(s) URL that accepts it with POST and returns the newest with GET, or nats://host:port/BUCKET", func(place string) (err error) {
		if natswitness.Is(place) {
			seal.Witness, err = natswitness.Open(place)
			return err
		}
		seal.Witness, err = evidence.OpenWitness(place)
		return err
	})
}

// terminal returns w if it is a terminal; nil otherwise.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}

// exitCode prints the error of cmd, if any, and returns the exit code.
func exitCode(ctx context.Context, cmd *cobra.Command, err error, stderr io.Writer) int {
	var hinted hintError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrGate):
		return ExitGate
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, cmd.Root().Name()+": interrupted")
		return ExitFailure
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
		return ExitUsage
	}
	return ExitFailure
}

// Quoted returns the text as one word for a shell.
func Quoted(s string) string { return `"` + s + `"` }

// NoArgs refuses arguments.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("unexpected argument %q: everything is a flag", args[0])
	}
	return nil
}

// Arguments accepts exactly n arguments; want describes them.
func Arguments(n int, want string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return Usagef("%d arguments: %s", len(args), want)
		}
		return nil
	}
}

// Revision returns the commit that the program was built from, or "unknown".
func Revision() string { return telemetry.BuildOf().Commit }
