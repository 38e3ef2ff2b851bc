package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
)

// pairs provides models and running pairs to the scripts. Training is done once for all scripts.
type pairs struct {
	// bin is the folder of the programs, dir of the trained models and their evidence, certs of the certificates.
	bin, dir, certs string

	train sync.Once
	err   error
	// servers are the NATS servers, which all scripts share. Each script has its own group.
	servers func() *natstest.Cluster
	// running has the latest process of each service.
	running sync.Map
}

// commands returns the commands that scripts have in addition to greenlight.
func (p *pairs) commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"trained": p.trained, "pair": p.start, "securedpair": p.secured, "down": p.kill, "end": p.end, "converse": p.converse, "promotable": promotable,
		"registry": p.registry, "nats": p.nats,
	}
}

// trained copies models/ and evidence/ml/, the output of greenlight train and eval, into the script's folder.
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

// nats sets $NATS to the address of a NATS server.
func (p *pairs) nats(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("NATS", p.servers().URL)
}

// running is a process, and a function that starts another one in its place.
type running struct {
	*process.Process
	again func() *process.Process
}

// service is a service of a script.
type service struct {
	script *testscript.TestScript
	name   string
}

// start starts ml-engine and executor on free ports and sets $ENGINE and $EXECUTOR to their gRPC addresses:
// pair [model=NAME/VERSION] [flag of executor]... ENGINE in a flag becomes the address of ml-engine. $EXECUTOR_HTTP is the address
// of executor's HTTP. The executor waits long for shadows, because the scripts run on busy machines.
func (p *pairs) start(ts *testscript.TestScript, _ bool, args []string) {
	p.startWith(ts, []string{"--insecure-control"}, args)
}

// secured is like start, with mutual TLS and a token for the control services. It copies certs/ into the script's folder:
// ca.pem, operator.pem, operator.key and the operator's token.
func (p *pairs) secured(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs("certs"), os.DirFS(p.certs)))
	at := func(name string) string { return ts.MkAbs(filepath.Join("certs", name)) }
	p.startWith(ts, []string{
		"--tls-cert", at("server.pem"), "--tls-key", at("server.key"), "--tls-client-ca", at("ca.pem"), "--control-token-file", at("token"),
	}, append([]string{
		"--engine-tls-ca", at("ca.pem"), "--engine-tls-cert", at("operator.pem"), "--engine-tls-key", at("operator.key"),
	}, args...))
}

// issue creates the certificates and the token of the secured pairs.
func issue(t *testing.T) string {
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "desk")
	certstest.Write(t, dir, "ca.pem", ca.PEM)
	for name, names := range map[string][]string{"server": {"localhost", "127.0.0.1"}, "operator": {"spiffe://desk/operator"}} {
		pair := ca.Issue(names...)
		certstest.Write(t, dir, name+".pem", pair.Cert)
		certstest.Write(t, dir, name+".key", pair.Key)
	}
	certstest.Write(t, dir, "token", []byte("a-token-of-the-operators-of-the-desk\n"))
	return dir
}

// startWith starts the pair. Both services get the flags in both, and executor those in args too.
func (p *pairs) startWith(ts *testscript.TestScript, both, args []string) {
	listen := append([]string{"--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}, both...)
	var start func(name string, args ...string) *process.Process
	start = func(name string, args ...string) *process.Process {
		dir := ts.MkAbs("logs")
		ts.Check(os.MkdirAll(dir, 0o755))
		started, err := process.Start(context.Background(), filepath.Join(p.bin, name), dir, slices.Concat(listen, args)...)
		ts.Check(err)
		ts.Defer(func() { _ = started.Stop(5 * time.Second) })
		p.running.Store(service{ts, name}, running{started, func() *process.Process { return start(name, args...) }})
		return started
	}
	models, model := ts.MkAbs("models"), "simulated/v1.8.1-rc1"
	if len(args) > 0 {
		if named, ok := strings.CutPrefix(args[0], "model="); ok {
			model, args = named, args[1:]
		}
	}
	engine := start("ml-engine", "--models", models, "--model", model, "--drift-clock", "event")
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "ENGINE", engine.Addr("grpc"))
	}
	executor := start("executor", append([]string{
		"--baseline", "heuristic=" + filepath.Join(models, filepath.FromSlash(model), "baseline.json"), "--engine-addr", engine.Addr("grpc"),
		"--shadow-timeout", "2s", "--breaker-error-rate", "0.9",
	}, args...)...)
	ts.Setenv("ENGINE", engine.Addr("grpc"))
	ts.Setenv("EXECUTOR", executor.Addr("grpc"))
	ts.Setenv("EXECUTOR_HTTP", executor.Addr("http"))
}

// kill kills a service of the pair, for example: down ml-engine.
func (p *pairs) kill(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(p.named(ts, args).Kill())
}

// end ends a service of the pair as an operator does, so that it saves what it has: end executor.
func (p *pairs) end(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(p.named(ts, args).Stop(time.Minute))
}

func (p *pairs) named(ts *testscript.TestScript, args []string) running {
	if len(args) != 1 {
		ts.Fatalf("usage: down|end ml-engine|executor")
	}
	started, ok := p.running.Load(service{ts, args[0]})
	if !ok {
		ts.Fatalf("%s is not running", args[0])
	}
	return started.(running)
}

// promotable writes made-up evidence to evidence/ml that does not block the promotion of v1.8.1-rc1.
func promotable(ts *testscript.TestScript, _ bool, _ []string) {
	registry := model.OpenRegistry(ts.MkAbs("models"))
	a, err := registry.Load("v1.8.1-rc1")
	ts.Check(err)
	ts.Check(os.RemoveAll(ts.MkAbs("evidence")))
	// The evaluation in the model is of a simulated market. Without it, as in older models, the one in the folder counts.
	a.Offline = nil
	ts.Check(os.RemoveAll(ts.MkAbs("models/simulated/v1.8.1-rc1")))
	ts.Check(registry.Add(a))
	_, err = promotetest.Evidence{Folder: ts.MkAbs("evidence/ml"), Model: a, Now: time.Now()}.Write()
	ts.Check(err)
}
