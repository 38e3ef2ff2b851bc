// Package process starts the services as processes of their own, waits until they answer, and stops them as an operator
// would.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Process is a running service.
type Process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	addrs map[string]string
	done  chan struct{}
	err   error // of Wait, readable once done is closed
	// killed says that Kill has ended it.
	killed atomic.Bool
}

// Start runs the program with the arguments, adds --address-file, and returns when the program has bound its addresses.
// Its standard error goes to <dir>/<name>.log. A program that ends before that is an error with the last line it logged.
func Start(ctx context.Context, program, dir string, args ...string) (*Process, error) {
	name := filepath.Base(program)
	p := &Process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	addressFile := filepath.Join(dir, name+".addresses")
	if err := os.Remove(addressFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	logFile, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = logFile.Close() }() // the child has its own handle
	// The context is not handed to the command: it would kill where Stop asks first.
	p.cmd = exec.Command(program, append(args, "--address-file", addressFile)...) //nolint:noctx // see above
	p.cmd.Stderr = logFile
	// An interrupt at the terminal goes to the whole process group; only greenlight decides when the services stop.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if p.addrs, err = p.bound(ctx, addressFile); err != nil {
		return nil, errors.Join(err, p.Stop(5*time.Second))
	}
	return p, nil
}

// bound waits for the address file.
func (p *Process) bound(ctx context.Context, path string) (map[string]string, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		if raw, err := durable.ReadFile(path, durable.MaxDocument); err == nil {
			addrs := map[string]string{}
			for line := range strings.Lines(string(raw)) {
				if name, addr, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
					addrs[name] = addr
				}
			}
			return addrs, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.done:
			return nil, fmt.Errorf("%s ended at its start: %s", p.name, p.lastLine())
		case <-limit.C:
			return nil, fmt.Errorf("%s does not serve after 20 s; see %s", p.name, p.log)
		case <-tick.C:
		}
	}
}

// Addr is where the process serves "grpc" or "http".
func (p *Process) Addr(kind string) string { return p.addrs[kind] }

// Log is the file that has what the process logs.
func (p *Process) Log() string { return p.log }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Err reports whether the process has ended on its own.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %s", p.name, p.lastLine())
	default:
		return nil
	}
}

// Kill ends the process at once, as a crash would, and waits until it is gone. It returns an error if the process had ended
// before. Killing twice is fine.
func (p *Process) Kill() error {
	if p.killed.Load() {
		return nil
	}
	if err := p.Err(); err != nil {
		return err
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	p.killed.Store(true)
	<-p.done
	return nil
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// Stop asks the process to stop, waits for at most the grace, and then kills it. It returns an error when the process
// did not end cleanly. Stopping twice is fine.
func (p *Process) Stop(grace time.Duration) error {
	select {
	case <-p.done:
	default:
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
			_ = p.cmd.Process.Kill()
			<-p.done
			return fmt.Errorf("%s did not stop within %v and was killed; see %s", p.name, grace, p.log)
		}
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w: %s", p.name, p.err, p.lastLine())
	}
	return nil
}

// lastLine is the last that the process logged, for a message to people.
func (p *Process) lastLine() string {
	raw, err := durable.ReadFile(p.log, durable.MaxDocument)
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(raw))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
