package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// TestSecurityGuide runs every shell snippet of docs/security.md, in order. The test changes the ports, and starts the
// services itself with the flags of the guide. In between it rotates the certificates under load, as the guide describes.
func TestSecurityGuide(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	t.Parallel()
	need.Program(t, "openssl", "openssl")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	shell := snippets(string(guide), "sh")
	if len(shell) != 6 {
		t.Fatalf("the guide has %d shell snippets: want those for certificates, model, services, calls, refusals and evidence", len(shell))
	}
	work := t.TempDir()
	programs(t, root, work, "ml-engine", "executor", "greenlight")
	bash := func(text string) {
		t.Helper()
		run(t, work, nil, "bash", "-euo", "pipefail", "-c", text)
	}
	for _, text := range shell[:2] {
		bash(text)
	}
	g := guided{t: t, work: work}
	addresses := g.start(shell[2])
	g.rotate(bash, addresses, shell[0])
	for _, text := range shell[3:] {
		bash(addresses.Replace(text))
	}
	for _, p := range []string{"ml-engine", "executor"} {
		if log := g.log(p); strings.Contains(log, "WITHOUT TLS") {
			t.Errorf("log of %s: %s", p, log)
		}
	}
	executor := g.log("executor")
	for _, want := range []string{
		`who=san:spiffe://desk/operator method=/greenlight.executor.v1.RolloutService/AbortRollout request="{\"reason\":\"drill\"}"`,
		`who=san:executor.desk method=/greenlight.executor.v1.RolloutService/AbortRollout`,
		"result=PermissionDenied", "refused in the TLS handshake",
	} {
		if !strings.Contains(executor, want) {
			t.Errorf("log of executor: want %q in it, got %s", want, executor)
		}
	}
}

// guided are the services of the guide.
type guided struct {
	t    *testing.T
	work string
}

// rotate reissues the certificates several times, with the functions of the snippet, while both services are called.
// Every answer must be right, and every shadow must arrive.
func (g guided) rotate(bash func(string), addresses *strings.Replacer, snippet string) {
	g.t.Helper()
	begin, end := strings.Index(snippet, "issue()"), strings.Index(snippet, "issue server")
	bash(addresses.Replace(`me="--tls-ca certs/ca.pem --tls-cert certs/operator.pem --tls-key certs/operator.key"
ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
` + snippet[begin:end] + `
bin/greenlight smoke --n 3000 --rate 1000 --evidence a --engine localhost:4010 $me > smoke.out & smoke=$!
bin/greenlight shadow-smoke --n 3000 --rate 1000 --evidence b --executor localhost:4020 $me > shadow.out & shadow=$!
for i in 1 2 3 4 5 6; do
	issue server DNS:localhost,IP:127.0.0.1
	issue executor DNS:executor.desk
	bin/greenlight status --engine localhost:4010 --executor localhost:4020 $me > status.out
	grep -q "v1.8.1-rc1" status.out
done
wait $smoke || test $? = 3 # the latency does not matter here
wait $shadow || test $? = 3
grep -q "3000 predictions, 100.0 % right" smoke.out
grep -q "3000 decisions.* 0 shadow errors" shadow.out
`))
	for _, p := range []string{"ml-engine", "executor"} {
		if log := g.log(p); strings.Count(log, "certificates reloaded") < 6 {
			g.t.Errorf("log of %s: got %s, want the certificates read again six times", p, log)
		}
	}
}

// start starts the services of the snippet on free ports, in order. The replacer that it returns inserts their addresses
// into other snippets.
func (g guided) start(snippet string) *strings.Replacer {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	var pairs []string
	for _, command := range strings.Split(strings.ReplaceAll(snippet, "\\\n", ""), "&\n") {
		args := strings.Fields(strings.NewReplacer(pairs...).Replace(command))
		if len(args) == 0 {
			continue
		}
		for i, a := range args {
			if a == "models" || strings.HasPrefix(a, "certs/") || strings.HasPrefix(a, "signing") {
				args[i] = filepath.Join(g.work, a)
			}
			args[i] = strings.Replace(args[i], "heuristic=models", "heuristic="+filepath.Join(g.work, "models"), 1)
		}
		if args[0] == "bin/executor" {
			args = append(args, "--shadow-timeout", "60s") // other tests may slow the machine down
		}
		p, err := process.Start(ctx, filepath.Join(g.work, args[0]), g.work,
			append(args[1:], "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log-level", "debug")...)
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { stop(g.t, p) })
		ports := map[string][2]string{"bin/ml-engine": {"localhost:4010", "localhost:4011"}, "bin/executor": {"localhost:4020", "localhost:4021"}}[args[0]]
		pairs = append(pairs, ports[0], p.Addr("grpc"), ports[1], p.Addr("http"))
	}
	if len(pairs) != 8 {
		g.t.Fatalf("the guide starts %d services, want 2", len(pairs)/4)
	}
	// Other tests may slow the machine down.
	for _, command := range []string{"bin/greenlight smoke", "bin/greenlight shadow-smoke", "bin/greenlight status", "bin/greenlight canary abort"} {
		pairs = append(pairs, command, command+" --timeout 60s")
	}
	return strings.NewReplacer(append(pairs, "curl -s ", "curl -sf ")...)
}

func (g guided) log(program string) string {
	g.t.Helper()
	raw, err := os.ReadFile(filepath.Join(g.work, program+".log"))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(raw)
}
