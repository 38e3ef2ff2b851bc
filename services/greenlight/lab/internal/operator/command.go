// Package operator runs commands of greenlight as processes, which can be killed and suspended.
package operator

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Command is a greenlight command as a process.
type Command struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	code int // once done is closed; -1 for one that was killed
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
		return nil, fmt.Errorf("start greenlight %s: %w", args, err)
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
		c.code = c.cmd.ProcessState.ExitCode()
	}()
	return c, nil
}

// Signal sends the signal to a command that has not ended.
func (c *Command) Signal(sig syscall.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Kill kills it if it still runs, and waits for its end.
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

// Refused reports whether it has failed with the error.
func (c *Command) Refused(want error) bool {
	return c.Ended() && c.code == 1 && strings.Contains(c.Said(), want.Error())
}

// Phrase returns the phrase that a canary plan has printed.
func (c *Command) Phrase() (string, error) {
	_, phrase, _ := strings.Cut(c.Said(), `--confirm "`)
	phrase, _, ok := strings.Cut(phrase, `"`)
	if !ok {
		return "", fmt.Errorf("no phrase in %q", c.Said())
	}
	return phrase, nil
}
