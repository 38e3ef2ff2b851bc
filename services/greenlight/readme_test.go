package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// TestREADME runs every shell snippet of the README and the guide against a real pair, and compiles every Go snippet. The test
// changes the ports (the services listen on free ones) and the folder of the programs, and make only prints what it would do.
// Flags, commands and files that the documents name must exist. The reference must match the programs; go test -update
// rewrites it.
func TestREADME(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	shell, goCode := snippets(string(readme), "sh"), snippets(string(readme), "go")
	if len(shell) < 5 || len(goCode) < 1 {
		t.Fatalf("the README has %d shell and %d Go snippets: the pattern that finds them is broken", len(shell), len(goCode))
	}

	work := t.TempDir()
	bin := programs(t, root, work, "ml-engine", "executor", "greenlight")
	for _, name := range []string{"ml-engine", "executor", "greenlight"} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name), "--version").Output()
		want := regexp.MustCompile(`^` + name + ` (devel|v\d\S*), commit ([0-9a-f]{40}|unknown)(\+changes)?, go1\.\d+\S*\n$`)
		if err != nil || !want.Match(out) {
			t.Errorf("%s --version prints %q (%v), want %s", name, out, err, want)
		}
	}
	pair := startPair(t, work, bin)

	pair.runAll(t, root, work, shell, 0)
	for _, text := range goCode {
		t.Run("go", func(t *testing.T) { compile(t, root, text) })
	}

	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(documents) < 4 {
		t.Fatalf("%d pages of the guide (%v)", len(documents), err)
	}
	lab, err := os.ReadFile(filepath.Join(root, "docs", "reference", "lab.md")) // the lab's own tests keep it
	if err != nil {
		t.Fatal(err)
	}
	all := append(helps(t, bin), help{"greenlight-lab", string(lab)})
	// The guide runs gates, which may fail on a busy machine: exit code 3 is accepted.
	for _, path := range documents {
		if filepath.Base(path) == "security.md" {
			continue // its services need certificates: TestSecurityGuide runs it
		}
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(path), func(t *testing.T) { pair.runAll(t, root, work, snippets(string(page), "sh"), 0, 3) })
	}
	t.Run("reference", func(t *testing.T) {
		agent := startAgent(t, pair, work, bin)
		telemetrytest.Golden(t, filepath.Join(root, "docs", "reference", "flags.md"), flagsPage(all[:len(all)-1]))
		telemetrytest.Golden(t, filepath.Join(root, "docs", "reference", "metrics.md"), metricsPage(t, map[string]string{
			"executor": "http://" + pair.executor.Addr("http") + "/metrics", "ml-engine": "http://" + pair.engine.Addr("http") + "/metrics",
			"greenlight agent": agent,
		}))
	})

	more, err := filepath.Glob(filepath.Join(root, "deploy", "*", "*.md"))
	if err != nil || len(more) < 20 {
		t.Fatalf("%d runbooks (%v)", len(more), err)
	}
	for _, path := range append(append(documents, more...), filepath.Join(root, "README.md"),
		filepath.Join(root, "CONTRIBUTING.md"), filepath.Join(root, "SECURITY.md"), filepath.Join(root, "docs", "adr", "README.md")) {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkMentions(t, filepath.Base(path), string(page), all)
		checkLinks(t, path, string(page))
	}
}

// programs makes the programs available as bin/ in the folder of the snippets, and returns their folder.
func programs(t *testing.T, root, work string, names ...string) string {
	t.Helper()
	bin := filepath.Join(work, "bin")
	if err := os.Symlink(need.Programs(t, root, names...), bin); err != nil {
		t.Fatal(err)
	}
	return bin
}

// runAll runs the snippets of a document in order. Each must exit with one of the codes, or miss a limit of a latency.
func (p runningPair) runAll(t *testing.T, root, work string, shell []string, codes ...int) {
	t.Helper()
	for i, text := range shell {
		if strings.Contains(text, "grpcurl") && !findGrpcurl(root) {
			t.Logf("snippet %d needs grpcurl: run make tools to build it", i)
			continue
		}
		script := p.here(text)
		t.Run(firstLine(text), func(t *testing.T) {
			env := []string{"PATH=" + filepath.Join(root, "bin", "tools") + ":" + os.Getenv("PATH"), "ROOT=" + root}
			script := "make() { command make -C \"$ROOT\" --dry-run \"$@\" >/dev/null; }\n" + script
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
			cmd.Dir, cmd.Env = work, append(os.Environ(), env...)
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); !slices.Contains(codes, code) && (code != 3 || onlySlow(string(out)) != nil) {
				t.Fatalf("%s\n%v\n%s", script, err, out)
			}
		})
	}
}

// runningPair is the pair of the test.
type runningPair struct {
	engine, executor *process.Process
}

// startPair trains on a simulated market and starts the services as the README does.
func startPair(t *testing.T, work, bin string) runningPair {
	t.Helper()
	run(t, work, nil, filepath.Join(bin, "greenlight"), "train", "--models", "models")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	engine, err := process.Start(ctx, filepath.Join(bin, "ml-engine"), work, "--models", filepath.Join(work, "models"),
		"--model", "v1.8.1-rc1", "--insecure-control", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, engine) })
	executor, err := process.Start(ctx, filepath.Join(bin, "executor"), work,
		"--baseline", "heuristic="+filepath.Join(work, "models", "simulated", "v1.8.1-rc1", "baseline.json"),
		"--engine-addr", engine.Addr("grpc"), "--challenger", "copy="+engine.Addr("grpc"), "--insecure-control", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0",
		"--shadow-timeout", "2s", "--breaker-error-rate", "0.9", // the machine may be busy
		"--decision-threshold", "0.5") // its series is part of the reference
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, executor) })
	return runningPair{engine, executor}
}

func stop(t *testing.T, p *process.Process) {
	t.Helper()
	if err := p.Stop(15 * time.Second); err != nil {
		t.Error(err)
	}
}

var (
	// background matches the services that already run, and the training of their model.
	background = regexp.MustCompile(`(?m)^bin/((ml-engine|executor) .*&|greenlight train --models models)$`)
	client     = regexp.MustCompile(`(?m)^bin/greenlight (smoke|shadow-smoke|replay)$`)
	engines    = regexp.MustCompile(`(?m)^bin/greenlight model (activate|rollback)\b`)
	executors  = regexp.MustCompile(`(?m)^bin/greenlight rollout (get|set)\b`)
	operator   = regexp.MustCompile(`(?m)^bin/greenlight (status|rollback|drift snapshot|canary (?:preflight|plan|abort)|agent)\b`)
)

// here returns the snippet with the addresses of this pair, and without the services that already run.
func (p runningPair) here(text string) string {
	text = background.ReplaceAllString(text, "true")
	text = client.ReplaceAllStringFunc(text, func(line string) string {
		if strings.HasSuffix(line, " smoke") {
			return line + " --engine " + p.engine.Addr("grpc")
		}
		return line + " --executor " + p.executor.Addr("grpc")
	})
	text = engines.ReplaceAllString(text, "$0 --engine "+p.engine.Addr("grpc"))
	text = executors.ReplaceAllString(text, "$0 --executor "+p.executor.Addr("grpc"))
	text = operator.ReplaceAllStringFunc(text, func(command string) string {
		if command == "bin/greenlight drift snapshot" {
			return command + " --engine " + p.engine.Addr("grpc")
		}
		return command + " --engine " + p.engine.Addr("grpc") + " --executor " + p.executor.Addr("grpc")
	})
	return strings.NewReplacer(
		"localhost:4010", p.engine.Addr("grpc"), "localhost:4011", p.engine.Addr("http"),
		"localhost:4020", p.executor.Addr("grpc"), "localhost:4021", p.executor.Addr("http"),
		"curl -s ", "curl -sf ", "pkg/trees/", "\"$ROOT\"/pkg/trees/",
	).Replace(text)
}

// compile builds the snippet as the body of a function in the client's example module.
func compile(t *testing.T, root, body string) {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(root, "deploy", "linkcheck"), "readme") //nolint:usetesting // within the module
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := `package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func decide(ctx context.Context, state []float64) error {
` + body + `	return nil
}

func main() { fmt.Println(decide(context.Background(), nil)) }
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, []string{"GOWORK=off"}, "go", "build", "-o", os.DevNull, ".")
}

func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func findGrpcurl(root string) bool {
	if _, err := os.Stat(filepath.Join(root, "bin", "tools", "grpcurl")); err == nil {
		return true
	}
	_, err := exec.LookPath("grpcurl")
	return err == nil
}

// snippets returns the fenced blocks of the language.
func snippets(markdown, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(markdown, -1) {
		found = append(found, m[1])
	}
	return found
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

// checkLinks fails for every link and picture in a document whose file does not exist.
func checkLinks(t *testing.T, path, text string) {
	t.Helper()
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.ReplaceAll(line, "/", "_")
}
