// Package rig runs the processes of a measurement, and measures the machine meanwhile.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Rig holds the processes of a measurement and everything else to clean up. Services and Dir are required.
type Rig struct {
	process.Services

	// Dir holds a folder for each process.
	Dir string

	mu      sync.Mutex
	running []*process.Process
	closers []func() error
}

// OnClose registers a function for Close to call. The last one registered is called first.
func (r *Rig) OnClose(end func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, end)
}

// Start starts a process, with its log in the folder of that name. Close stops it.
func (r *Rig) Start(name string, start func(dir string) (*process.Process, error)) (*process.Process, error) {
	dir := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := start(dir)
	if err != nil {
		return nil, err
	}
	r.OnClose(func() error { return r.Stop(p) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = append(r.running, p)
	return p, nil
}

// StartEngine starts an ml-engine.
func (r *Rig) StartEngine(ctx context.Context, name string, at process.Listen, flags ...string) (*process.Process, error) {
	return r.Start(name, func(dir string) (*process.Process, error) { return r.Engine(ctx, dir, at, flags...) })
}

// StartExecutor starts an executor that uses the ml-engine at the address.
func (r *Rig) StartExecutor(ctx context.Context, name, engine string, at process.Listen, flags ...string) (*process.Process, error) {
	return r.Start(name, func(dir string) (*process.Process, error) { return r.Executor(ctx, dir, engine, at, flags...) })
}

// Dial connects to a process. Close closes the connection.
func (r *Rig) Dial(p *process.Process) (*grpc.ClientConn, error) {
	conn, err := rpc.Dial(p.Addr("grpc"), nil)
	if err == nil {
		r.OnClose(conn.Close)
	}
	return conn, err
}

// Stop stops a process gracefully, even a suspended one. A second call does nothing.
func (r *Rig) Stop(p *process.Process) error {
	r.mu.Lock()
	i := slices.Index(r.running, p)
	if i >= 0 {
		r.running = slices.Delete(r.running, i, i+1)
	}
	r.mu.Unlock()
	if i < 0 {
		return nil
	}
	_ = p.Signal(syscall.SIGCONT) // fails if the process has ended
	return p.Stop(process.StopGrace)
}

// Await calls ok until it reports true or returns an error, and returns how long that took. It reports false after the limit.
func Await(ctx context.Context, limit time.Duration, ok func() (bool, error)) (took time.Duration, done bool, err error) {
	const pause = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for began := time.Now(); ; {
		if done, err = ok(); done || err != nil || !traffic.Pause(ctx, pause) {
			return time.Since(began), done, err
		}
	}
}

// client keeps no idle connections: the service would count them among its file descriptors.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Get fetches a page of a process.
func Get(ctx context.Context, p *process.Process, path string) ([]byte, error) {
	url := "http://" + p.Addr("http") + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, raw)
	}
	return raw, err
}

// Close ends everything in reverse order.
func (r *Rig) Close() error {
	r.mu.Lock()
	closers := r.closers
	r.closers = nil
	r.mu.Unlock()
	var errs []error
	for _, end := range slices.Backward(closers) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}
