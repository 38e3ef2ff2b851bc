package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// command is a greenlight command as a process, which can be killed and suspended.
type command struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	code int // once done is closed; -1 for one that was killed
}

// run starts a command of greenlight. Its output goes to a log of that name in the folder.
func (s *stage) run(name string, args ...string) (*command, error) {
	c := &command{log: filepath.Join(s.dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own handle
	// It does not get the context: a canary that is stopped sets 0 % first.
	c.cmd = exec.Command(s.opts.Self, args...) //nolint:noctx // see above
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start greenlight %s: %w", args, err)
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
		c.code = c.cmd.ProcessState.ExitCode()
	}()
	s.closers = append(s.closers, c.kill)
	return c, nil
}

// signal sends the signal to a command that has not ended.
func (c *command) signal(sig syscall.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// kill kills it if it still runs, and waits for its end.
func (c *command) kill() error {
	err := c.signal(syscall.SIGKILL)
	<-c.done
	return err
}

// said returns the output of the command so far.
func (c *command) said() string {
	raw, err := durable.ReadFile(c.log, durable.MaxDocument)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// refused reports whether the command failed with the error.
func (c *command) refused(want error) bool {
	return ended(c) && c.code == 1 && strings.Contains(c.said(), want.Error())
}

// plan plans a canary and returns the phrase that confirms it, or the command that refused.
func (s *stage) plan(state string, flags ...string) (phrase string, refused *command, err error) {
	c, err := s.run("plan-"+state, append([]string{
		"canary", "plan", "--engine", s.engine.Addr("grpc"), "--executor", s.executor.Addr("grpc"), "--evidence", s.evidence(),
		"--state", filepath.Join(s.dir, state), "--policy", s.policyFile(), "--source", string(s.opts.Source),
	}, flags...)...)
	if err != nil {
		return "", nil, err
	}
	<-c.done
	text := c.said()
	if c.code != 0 {
		return "", c, nil
	}
	_, phrase, _ = strings.Cut(text, `--confirm "`)
	phrase, _, ok := strings.Cut(phrase, `"`)
	if !ok {
		return "", nil, fmt.Errorf("no phrase in %q", text)
	}
	return phrase, nil, nil
}

// begin starts the canary that the phrase confirms, or resumes it if the phrase is empty.
func (s *stage) begin(name, state, phrase string) (*command, error) {
	args := []string{"canary", "start", "--state", filepath.Join(s.dir, state)}
	if phrase == "" {
		args = append(args, "--resume")
	} else {
		args = append(args, "--confirm", phrase)
	}
	return s.run(name, args...)
}

// start plans and starts a canary. The drift of an ml-engine that has just started changes with every row, so the phrase may
// be stale when it is used. Then start plans again, as an operator would.
func (s *stage) start(ctx context.Context, flags ...string) (*command, error) {
	for range 20 {
		phrase, refused, err := s.plan(firstState, flags...)
		if err == nil && refused != nil {
			err = fmt.Errorf("no plan: %s", strings.TrimSpace(refused.said()))
		}
		if err != nil {
			return nil, err
		}
		c, err := s.begin("canary", firstState, phrase)
		if err != nil {
			return nil, err
		}
		err = s.await(ctx, "the start of the canary", func() (bool, error) { return ended(c) || s.record() != nil, nil })
		if err != nil || s.record() != nil {
			return c, err
		}
		if !c.refused(canary.ErrPSIChanged) {
			return nil, fmt.Errorf("not begun: %s", strings.TrimSpace(c.said()))
		}
	}
	return nil, errors.New("not begun: the drift moves between plan and start, again and again")
}

// firstState is the state folder of the scenario's canary.
const firstState = "canary"
