package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
)

// hidden has the labels whose values are not listed, because there are too many, or because they depend on the model or on
// earlier events.
var hidden = map[string]string{
	"challenger": "its name; only with --challenger", "bin": "bin, `@`, first digits of the reference's digest", "digest": "sha256 of the manifest", "feature": "an input or a raw feature; in `ml_psi_*` also `overall`",
	"model_version": "version", "schema": "schema of its input", "version": "version of the model, or of the program", "commit": "hash, with `+changes`", "goversion": "version of Go", "instance_id": "random id of the process",
	"grpc_code": "status", "grpc_method": "method", "grpc_service": "service", "grpc_type": "`unary` or a kind of stream",
	"job_name": "what was done", "group": "the group; empty without one",
}

// metricsPage returns the reference of the metrics, read from the running programs.
func metricsPage(t *testing.T, services map[string]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`# Metrics

Generated from the running programs by ` + "`make reference`" + `. Names, labels and buckets are interfaces: a change of one is a
` + "`[CHANGE]`" + ` in [CHANGELOG.md](../../CHANGELOG.md). Every series exists from the start, at zero, except those of outgoing calls
and of the agent's jobs, which appear with the first call or job. The programs also have the metrics of the Go runtime
(` + "`go_*`, `process_*`" + `) and, with TLS, those of [certificates](../security.md#rotation) (` + "`ml_tls_*`" + `). The suffix of a name is its unit: ` + "`_ms`" + `
is milliseconds, ` + "`_seconds`" + ` seconds, ` + "`_total`" + ` a count since the start, ` + "`_ratio`" + ` and ` + "`_rate`" + ` a fraction in [0,1].
`)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		families := telemetrytest.Parse(t, strings.NewReader(get(t, services[name])))
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", name)
		var ours int
		edges := map[string][]string{}
		for _, family := range slices.Sorted(maps.Keys(families)) {
			f := families[family]
			if !strings.HasPrefix(family, "ml_") && !strings.HasPrefix(family, "grpc_") {
				continue
			}
			ours++
			if f.GetHelp() == "" {
				t.Errorf("%s has no help", family)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", family, strings.ToLower(f.GetType().String()), labelsOf(f), cell(f.GetHelp()))
			if e := bucketsOf(f); e != "" {
				edges[e] = append(edges[e], "`"+family+"`")
			}
		}
		if ours < 3 {
			t.Fatalf("%s has %d metrics", name, ours)
		}
		if len(edges) > 0 {
			b.WriteString("\nUpper bounds of the buckets:\n\n")
		}
		for _, e := range slices.SortedFunc(maps.Keys(edges), func(x, y string) int { return cmp.Compare(edges[x][0], edges[y][0]) }) {
			fmt.Fprintf(&b, "- %s: %s\n", strings.Join(edges[e], ", "), e)
		}
	}
	return b.String()
}

// labelsOf lists the labels of a family with their values.
func labelsOf(f *dto.MetricFamily) string {
	values := map[string]map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if values[l.GetName()] == nil {
				values[l.GetName()] = map[string]bool{}
			}
			values[l.GetName()][l.GetValue()] = true
		}
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		meaning, ok := hidden[name]
		if !ok {
			meaning = "`" + strings.Join(slices.Sorted(maps.Keys(values[name])), "` `") + "`"
		}
		labels = append(labels, "`"+name+"`: "+meaning)
	}
	return strings.Join(labels, "<br>")
}

func bucketsOf(f *dto.MetricFamily) string {
	var edges []string
	for _, bucket := range f.GetMetric()[0].GetHistogram().GetBucket() {
		edges = append(edges, fmt.Sprint(bucket.GetUpperBound()))
	}
	return strings.Join(edges, " ")
}

// cell escapes a text for a table cell.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(text)
}

// startAgent starts an agent for the pair and returns the URL of its metrics after its first sample.
func startAgent(t *testing.T, pair runningPair, work, bin string) string {
	t.Helper()
	addresses := filepath.Join(work, "agent.addresses")
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "greenlight"), "agent",
		"--engine", pair.engine.Addr("grpc"), "--executor", pair.executor.Addr("grpc"), "--source", "simulated",
		"--evidence", filepath.Join(work, "agent-evidence"), "--state", filepath.Join(work, "agent-state"),
		"--metrics-listen", "127.0.0.1:0", "--address-file", addresses)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	for limit := time.After(30 * time.Second); ; {
		if line, err := os.ReadFile(addresses); err == nil {
			_, addr, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
			if strings.Contains(get(t, "http://"+addr+"/metrics"), "ml_agent_last_success_timestamp_seconds{") {
				return "http://" + addr + "/metrics"
			}
		}
		select {
		case <-limit:
			t.Fatal("the agent took no sample within 30 s")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// help is the help text of a program or command.
type help struct {
	// command is the command line, for example "greenlight drift snapshot".
	command string
	text    string
}

var (
	subcommand = regexp.MustCompile(`(?m)^  ([a-z-]+) +\S`)
	flagLine   = regexp.MustCompile(`(?m)^ +(?:-\w, )?--?([a-z][a-z-]*)`)
)

// helps returns the help of the programs in bin and of all commands of greenlight.
func helps(t *testing.T, bin string) []help {
	t.Helper()
	var all []help
	var ask func(words ...string)
	ask = func(words ...string) {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, words[0]), append(words[1:], "--help")...).CombinedOutput()
		if err != nil && words[0] == "greenlight" {
			t.Fatalf("%s --help: %v\n%s", strings.Join(words, " "), err, out)
		}
		all = append(all, help{strings.Join(words, " "), string(out)})
		_, commands, ok := strings.Cut(string(out), "Available Commands:\n")
		if !ok {
			return
		}
		commands, _, _ = strings.Cut(commands, "\n\n")
		for _, m := range subcommand.FindAllStringSubmatch(commands, -1) {
			if m[1] != "help" && m[1] != "completion" {
				ask(append(slices.Clone(words), m[1])...)
			}
		}
	}
	for _, name := range []string{"ml-engine", "executor", "greenlight"} {
		ask(name)
	}
	if len(all) < 20 {
		t.Fatalf("%d programs and commands: the pattern that finds them is broken", len(all))
	}
	return all
}

func (h help) flags() []string {
	var names []string
	for _, m := range flagLine.FindAllStringSubmatch(h.text, -1) {
		names = append(names, m[1])
	}
	return names
}

// serviceFlag matches a flag in the output of package flag: its name and type, then its usage and default.
var serviceFlag = regexp.MustCompile(`(?m)^  -([a-z-]+)(?: (\S+))?\n    \t(.*)$`)

// flagsPage returns the reference of the flags of all programs and commands.
func flagsPage(all []help) string {
	var b strings.Builder
	b.WriteString("# Flags\n\nGenerated from the help of the programs by `make reference`. Every setting is a flag. A flag can also be set\n" +
		"by an environment variable: `ML_ENGINE_GRPC_ADDR`, `EXECUTOR_STATE_DIR`, `GREENLIGHT_TLS_CA` and so on. (`GREENLIGHT_DATA` is not\n" +
		"`--data`: it is the folder of market data for the tests.) The command line takes precedence.\n\n" +
		"`greenlight` also reads `greenlight.yaml` in the working directory, or the file that `--settings` names. The environment takes\n" +
		"precedence over it. A key is the name of a flag, for all commands that have it, or a command with flags for it alone:\n\n" +
		"```yaml\nevidence: /srv/greenlight/evidence\nexecutor: [desk-1:4020, desk-2:4020]\ntls-ca: certs/ca.pem\ncanary start:\n  hold-limit: 2h\n```\n\n" +
		"`greenlight completion bash` (or zsh, fish, powershell) prints the completion of a shell.\n")
	for _, h := range all {
		fmt.Fprintf(&b, "\n## %s\n\n", h.command)
		if flags := serviceFlag.FindAllStringSubmatch(h.text, -1); len(flags) > 0 {
			b.WriteString("| flag | environment | meaning |\n|---|---|---|\n")
			for _, f := range flags {
				env := strings.ToUpper(strings.ReplaceAll(h.command+"_"+f[1], "-", "_"))
				fmt.Fprintf(&b, "| `--%s` %s | `%s` | %s |\n", f[1], cell(f[2]), env, cell(f[3]))
			}
			continue
		}
		// Drop cobra's last line, which contains the folder of the program.
		text, _, _ := strings.Cut(h.text, "\nUse \"")
		fmt.Fprintf(&b, "```text\n%s\n```\n", strings.TrimSpace(text))
	}
	return b.String()
}

var (
	// mentioned matches flags in code: in inline code, and in fenced blocks.
	mentioned = regexp.MustCompile(`(?:^|[\s"'` + "`" + `(\[])--([a-z][a-z-]+)`)
	called    = regexp.MustCompile(`greenlight ((?:[a-z][a-z-]+ ?)+)`)
	code      = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")
)

// otherFlags are flags of other programs that the documentation calls.
var otherFlags = []string{
	"plaintext", "namespace", "from-file", "network", "help", "no-progress", "cacert", "cert", "entrypoint", "signature", "type", "digest", "insecure-ignore-tlog",
	// nats, nsc, docker compose and helm
	"history", "replicas", "max-value-size", "republish-source", "republish-destination", "subjects", "storage", "max-age", "max-bytes", "max-msg-size", "max-msgs-per-subject",
	"dupe-window", "discard", "defaults", "allow-pub", "allow-sub", "rm", "install", "repo", "values",
}

// checkMentions fails for every flag and every command of greenlight that a document uses and that does not exist.
func checkMentions(t *testing.T, document, text string, all []help) {
	t.Helper()
	flags, commands := map[string]bool{}, map[string]bool{}
	for _, h := range all {
		commands[h.command] = true
		for _, name := range h.flags() {
			flags[name] = true
		}
	}
	for _, block := range code.FindAllString(text, -1) {
		for _, m := range mentioned.FindAllStringSubmatch(block, -1) {
			if !flags[m[1]] && !slices.Contains(otherFlags, m[1]) {
				t.Errorf("%s: there is no flag --%s", document, m[1])
			}
		}
		for _, m := range called.FindAllStringSubmatch(block, -1) {
			if first, _, _ := strings.Cut(strings.TrimSpace(m[1]), " "); !commands["greenlight "+first] && first != "help" {
				t.Errorf("%s: there is no command greenlight %s", document, first)
			}
		}
	}
}
