package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/proc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
)

// pairs are what the scripts about a running pair begin from. Training is done once for all of them.
type pairs struct {
	// bin is the folder of the services, dir that of the trained models and their evidence.
	bin, dir string

	train sync.Once
	err   error
	// running has the process of each service.
	running sync.Map
}

// commands are what the scripts can say beside greenlight.
func (p *pairs) commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"trained": p.trained, "pair": p.start, "down": p.kill, "promotable": promotable,
	}
}

// trained puts models/ and evidence/ml/ into the script's folder, as greenlight train and eval leave them.
func (p *pairs) trained(ts *testscript.TestScript, _ bool, _ []string) {
	p.train.Do(func() {
		for _, args := range [][]string{{"train"}, {"eval"}} {
			cmd := exec.Command(filepath.Join(p.bin, "greenlight"), args...)
			cmd.Dir = p.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				p.err = fmt.Errorf("greenlight %v: %w\n%s", args, err, out)
				return
			}
		}
	})
	ts.Check(p.err)
	ts.Check(os.CopyFS(ts.MkAbs("."), os.DirFS(p.dir)))
}

// service is a service of a script.
type service struct {
	script *testscript.TestScript
	name   string
}

// start starts ml-engine and executor on free ports, and puts their gRPC addresses into $ENGINE and $EXECUTOR:
// pair [flag of executor]... The executor is patient: the scripts are about decisions, and run on busy machines.
func (p *pairs) start(ts *testscript.TestScript, _ bool, args []string) {
	listen := []string{"--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--insecure-control"}
	run := func(name string, args ...string) *proc.Process {
		dir := ts.MkAbs("logs")
		ts.Check(os.MkdirAll(dir, 0o755))
		started, err := proc.Start(context.Background(), filepath.Join(p.bin, name), dir, append(args, listen...)...)
		ts.Check(err)
		ts.Defer(func() { _ = started.Stop(5 * time.Second) })
		p.running.Store(service{ts, name}, started)
		return started
	}
	models := ts.MkAbs("models")
	engine := run("ml-engine", "--models", models, "--model", "v1.8.1-rc1", "--drift-clock", "event")
	executor := run("executor", append([]string{
		"--baseline", "heuristic=" + filepath.Join(models, "simulated", "v1.8.1-rc1", "baseline.json"), "--engine-addr", engine.Addr("grpc"),
		"--shadow-timeout", "2s", "--breaker-error-rate", "0.9",
	}, args...)...)
	ts.Setenv("ENGINE", engine.Addr("grpc"))
	ts.Setenv("EXECUTOR", executor.Addr("grpc"))
}

// kill kills a service of the pair: down ml-engine.
func (p *pairs) kill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: down ml-engine|executor")
	}
	started, ok := p.running.Load(service{ts, args[0]})
	if !ok {
		ts.Fatalf("no %s runs", args[0])
	}
	ts.Check(started.(*proc.Process).Kill())
}

// promotable writes made-up evidence to evidence/ml that nothing blocks the promotion of v1.8.1-rc1 by.
func promotable(ts *testscript.TestScript, _ bool, _ []string) {
	registry := model.OpenRegistry(ts.MkAbs("models"))
	a, err := registry.Load("v1.8.1-rc1")
	ts.Check(err)
	ts.Check(os.RemoveAll(ts.MkAbs("evidence")))
	// Its own evaluation is of a simulated market. A model of an older version has none, and that of the folder counts.
	a.Offline = nil
	ts.Check(os.RemoveAll(ts.MkAbs("models/simulated/v1.8.1-rc1")))
	ts.Check(registry.Add(a))
	_, err = promotetest.Evidence{Folder: ts.MkAbs("evidence/ml"), Model: a, Now: time.Now()}.Write()
	ts.Check(err)
}
