// Package process starts the services as child processes, waits until they have bound their addresses, and stops them
// with a signal, as an operator does.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	err   error // the error of Wait, valid once done is closed
	// killed means that Kill ended the process.
	killed atomic.Bool
}

// Start runs the program with the arguments and --address-file, and returns when the program has bound its addresses.
// Its standard error goes to <dir>/<name>.log. If the program exits before that, the error has the last line of the log.
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
	// The command does not get the context: a canceled context would kill it, while Stop asks first.
	p.cmd = exec.Command(program, append(args, "--address-file", addressFile)...) //nolint:noctx // see above
	p.cmd.Stderr = logFile
	// An interrupt at the terminal goes to the whole process group. In its own group, the service stops only when
	// greenlight decides.
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

// bound waits for the address file and returns the addresses by name.
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
			return nil, fmt.Errorf("%s exited during startup: %s", p.name, p.lastLine())
		case <-limit.C:
			return nil, fmt.Errorf("%s did not serve within 20 s; see %s", p.name, p.log)
		case <-tick.C:
		}
	}
}

// Addr returns the address at which the process serves "grpc" or "http".
func (p *Process) Addr(kind string) string { return p.addrs[kind] }

// Log returns the path of the process's log.
func (p *Process) Log() string { return p.log }

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Err returns an error if the process has exited.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s exited: %s", p.name, p.lastLine())
	default:
		return nil
	}
}

// Crashed is like [Process.Err], but ignores an exit caused by Kill.
func (p *Process) Crashed() error {
	if p.killed.Load() {
		return nil
	}
	return p.Err()
}

// Kill kills the process, as a crash would, and waits until it is gone. It returns an error if the process had already exited,
// unless an earlier Kill ended it.
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

// Stop asks the process to stop, waits for at most the grace period, and then kills it. It returns an error if the
// process did not exit cleanly. It may be called again, and does nothing after Kill.
func (p *Process) Stop(grace time.Duration) error {
	if p.killed.Load() {
		return nil
	}
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
		return fmt.Errorf("%s failed: %w: %s", p.name, p.err, p.lastLine())
	}
	return nil
}

// Resident returns the resident memory of the process, in bytes. It reads /proc, so it fails on systems other than Linux.
func (p *Process) Resident() (int64, error) {
	path := fmt.Sprintf("/proc/%d/statm", p.PID())
	raw, err := durable.ReadFile(path, durable.MaxDocument)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s has %d fields", path, len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// lastLine returns the last line of the log.
func (p *Process) lastLine() string {
	raw, err := durable.ReadFile(p.log, durable.MaxDocument)
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(raw))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
