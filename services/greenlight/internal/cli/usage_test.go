package cli

import (
	"bytes"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// run runs a command line of greenlight, and returns its exit code and its outputs.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, nil, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// A mistyped command line exits 2 and suggests a correction. Nothing runs.
func TestMistypedCommandLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, want string }{
		{"trian", `unknown command "trian" for "greenlight": did you mean train?`},
		{"trian --data x", `did you mean train?`},
		{"hlp", `did you mean help?`},
		{"evidence verfy", `unknown command "verfy" for "greenlight evidence": did you mean verify?`},
		{"evidence verfy --evidence x", `did you mean verify?`},
		{"evidence --evidence x verfy", `did you mean verify?`},
		{"canary abrt --executor 127.0.0.1:1", `did you mean abort?`},
		{"model lst", `did you mean list?`},
		{"model --models x lst", `did you mean list?`},
		{"drift snapshto", `did you mean snapshot?`},
		{"report dayly", `did you mean daily?`},
		{"rollout gte", `did you mean get?`},
		{"evidence xyzzy", `unknown command "xyzzy" for "greenlight evidence"`},
		{"completion bahs", `did you mean bash`},
		{"evidence", "greenlight evidence needs a subcommand: render, verify"},
		{"canary", "greenlight canary needs a subcommand: abort,"},
		{"help evidence verfy", `did you mean verify?`},
		{"help trian", `did you mean train?`},
		{"train --dta x", "unknown flag: --dta: did you mean --data?"},
		{"train -data x", "did you mean --data"},
		{"canary start --confrim x", "did you mean --confirm?"},
		{"replay --lop", "did you mean --loop?"},
		{"--verson", "did you mean --version?"},
		{"evidence verify now", `unexpected argument "now": everything is a flag`},
		{"model list v1", `unexpected argument "v1"`},
		{"model show", "0 arguments: name one model"},
		{"canary start", "give one of --confirm, --resume and --dry-run"},
		{"canary start --resume --phases 5", "--phases is for --dry-run"},
		{"canary start --dry-run --tls-ca x", "--tls-ca is not for --dry-run"},
		{"canary start --confirm x --run y", "--run is for --resume"},
		{"feed reset --symbol i\xfe", `--symbol "i\xfe": want UTF-8`},
		{"shadow watch --symbol i\xfe", `--symbol "i\xfe": want UTF-8`},
		{"rollout set --percent 1 --holder i\xfe --lease 2s", `--holder "i\xfe": want UTF-8`},
	} {
		code, stdout, stderr := run(t, strings.Fields(c.line)...)
		if code != console.ExitUsage || stdout != "" || !strings.Contains(stderr, c.want) || !strings.Contains(stderr, " --help lists its flags") {
			t.Errorf("greenlight %s: exit %d, stdout %q, stderr %q; want 2 and %q", c.line, code, stdout, stderr, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, want string }{
		{"", "Usage:"},
		{"help", "Usage:"},
		{"--help", "Usage:"},
		{"evidence --help", "greenlight evidence [command]"},
		{"help evidence", "greenlight evidence [command]"},
		{"help canary start", "--confirm"},
		{"canary start -h", "--confirm"},
	} {
		code, stdout, stderr := run(t, strings.Fields(c.line)...)
		if code != console.ExitOK || stderr != "" || !strings.Contains(stdout, c.want) {
			t.Errorf("greenlight %s: exit %d, stdout %q, stderr %q; want 0 and %q", c.line, code, stdout, stderr, c.want)
		}
	}
	for line, want := range map[string]bool{"drift --help": false, "replay --help": true, "drift watch --help": true} {
		if _, stdout, _ := run(t, strings.Fields(line)...); strings.Contains(stdout, " [flags]\n") != want {
			t.Errorf("greenlight %s: %q; want it shown as a command of itself: %t", line, stdout, want)
		}
	}
}

// Every command refuses unknown arguments, and every command that calls a service has the flags for a secured one.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	arguments := []string{"model activate", "model show", "model verify", "model import", "model sign", "schema check"}
	root := newRoot(console.Console{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	var walk func(words ...string)
	walk = func(words ...string) {
		cmd, _, err := root.Find(words)
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range cmd.Commands() {
			walk(append(words[:len(words):len(words)], sub.Name())...)
		}
		line := strings.Join(words, " ")
		if len(words) == 0 || cmd.HasSubCommands() || words[0] == "help" || words[0] == "completion" {
			return
		}
		if cmd.Flag("engine") != nil || cmd.Flag("executor") != nil || line == "canary start" {
			for _, flag := range []string{"control-token-file", "tls-ca", "tls-cert", "tls-key", "tls-server-name"} {
				if cmd.Flag(flag) == nil {
					t.Errorf("greenlight %s has no --%s", line, flag)
				}
			}
		}
		for _, takes := range arguments {
			if line == takes {
				return
			}
		}
		if code, _, stderr := run(t, append(words, "superfluous")...); code != console.ExitUsage {
			t.Errorf("greenlight %s superfluous: exit %d, %s", line, code, stderr)
		}
	}
	walk()
}

// full is a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A command whose results are lost does not say that all is well.
func TestLostResults(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"--help", "completion bash", "evidence verify --help", "simulate --days 1 --out " + t.TempDir(), "model list --models " + t.TempDir(), "model list --output json --models " + t.TempDir()} {
		var errs bytes.Buffer
		if code := Main(t.Context(), strings.Fields(line), nil, strings.NewReader(""), full{}, &errs); code != console.ExitFailure || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("greenlight %s: exit %d, stderr %q", line, code, errs.String())
		}
	}
}

// Help and completions are text, and --output json does not hide them.
func TestHelpIsText(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"help status", "status --help", "completion bash"} {
		if code, stdout, _ := run(t, strings.Fields(line+" --output json")...); code != console.ExitOK || !strings.Contains(stdout, "greenlight") {
			t.Errorf("greenlight %s --output json: exit %d, stdout %q", line, code, stdout)
		}
	}
}
