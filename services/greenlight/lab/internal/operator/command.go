// Package operator acts like an operator: it creates a key, and runs greenlight commands as processes, which can be killed and
// suspended.
package operator

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// NewKey writes a new private key to the file, and its public key to the same name with .pub appended.
func NewKey(path string) (*dsse.Signer, error) {
	if err := dsse.NewKey(path); err != nil {
		return nil, err
	}
	return dsse.ReadSigner(path)
}

// Command is a command that runs as a process.
type Command struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	code int // valid once done is closed; -1 if it was killed
}

// Run starts a command of the program. Its output goes to the file log. The caller must call Kill, or wait until it has ended.
func Run(program, log string, args ...string) (*Command, error) {
	c := &Command{log: log, done: make(chan struct{})}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the child has its own handle
	// It gets no context: a canary that is stopped sets 0 % first.
	c.cmd = exec.Command(program, args...) //nolint:noctx // see above
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", filepath.Base(program), args, err)
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
		c.code = c.cmd.ProcessState.ExitCode()
	}()
	return c, nil
}

// Signal sends the signal unless the command has ended.
func (c *Command) Signal(sig syscall.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Kill kills the command if it is running, and waits for its end.
func (c *Command) Kill() error {
	err := c.Signal(syscall.SIGKILL)
	<-c.done
	return err
}

// Ended reports whether it has ended.
func (c *Command) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Wait waits for its end and returns its exit code, -1 if it was killed.
func (c *Command) Wait() int {
	<-c.done
	return c.code
}

// Said returns its output so far.
func (c *Command) Said() string {
	raw, err := durable.ReadFile(c.log, durable.MaxDocument)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// LastLine returns the last line of its output.
func (c *Command) LastLine() string {
	text := strings.TrimSpace(c.Said())
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// Refused reports whether the command failed with the error.
func (c *Command) Refused(want error) bool {
	return c.Ended() && c.code == 1 && strings.Contains(c.Said(), want.Error())
}

// Phrase waits for the end of a canary plan, and returns the phrase that confirms it.
func (c *Command) Phrase() (string, error) {
	if c.Wait() != 0 {
		return "", fmt.Errorf("no plan: %s", strings.TrimSpace(c.Said()))
	}
	_, phrase, _ := strings.Cut(c.Said(), `--confirm "`)
	phrase, _, ok := strings.Cut(phrase, `"`)
	if !ok {
		return "", fmt.Errorf("no phrase in %q", c.Said())
	}
	return phrase, nil
}

// Begin plans a canary and starts it. The drift of newly started ml-engines changes with every row, so the phrase may be stale
// when it is used: then Begin plans again, as an operator would. begun waits until the canary has begun, or reports that it
// has ended.
func Begin(plan func() (*Command, error), start func(phrase string) (*Command, error), begun func(*Command) (bool, error)) (*Command, error) {
	for range 20 {
		p, err := plan()
		if err != nil {
			return nil, err
		}
		phrase, err := p.Phrase()
		if err != nil {
			return nil, err
		}
		c, err := start(phrase)
		if err != nil {
			return nil, err
		}
		if ok, err := begun(c); ok || err != nil {
			return c, err
		}
		if !c.Refused(canary.ErrPSIChanged) {
			return nil, fmt.Errorf("not begun: %s", strings.TrimSpace(c.Said()))
		}
	}
	return nil, errors.New("not begun: the drift changed between plan and start in every attempt")
}
