package command

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// TestReference compares the reference of the flags with the help of every command. The documents may name only these flags.
func TestReference(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Flags of greenlight-lab\n\nGenerated from the help of the program by `make reference`. A flag can also be set as an environment variable, for example\n" +
		"`GREENLIGHT_LAB_BIN`; the command line takes precedence.\n")
	commands := 0
	var visit func(words ...string)
	visit = func(words ...string) {
		var out, errs strings.Builder
		if code := Main(t.Context(), append(words, "--help"), nil, strings.NewReader(""), &out, &errs); code != 0 {
			t.Fatalf("%v --help: exit code %d\n%s", words, code, errs.String())
		}
		commands++
		text, _, _ := strings.Cut(out.String(), "\nUse \"")
		fmt.Fprintf(&page, "\n## %s\n\n```text\n%s\n```\n", strings.Join(append([]string{"greenlight-lab"}, words...), " "), strings.TrimSpace(text))
		at, _, err := newRoot(console.Console{}).Find(words)
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range at.Commands() {
			if sub.IsAvailableCommand() {
				visit(append(words[:len(words):len(words)], sub.Name())...)
			}
		}
	}
	visit()
	if commands < 8 {
		t.Fatalf("%d commands", commands)
	}
	telemetrytest.Golden(t, filepath.Join("..", "..", "..", "..", "..", "docs", "reference", "lab.md"), page.String())
}
