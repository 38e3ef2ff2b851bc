package console

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// program is a command line with flags of every kind.
func program(c Console) *cobra.Command {
	root := &cobra.Command{Use: "tool"}
	for _, name := range []string{"fetch", "push"} {
		cmd := &cobra.Command{Use: name}
		var text, both string
		var list []string
		var n int
		var wait time.Duration
		var yes bool
		fs := cmd.Flags()
		fs.StringVar(&text, name+"-text", "default", "")
		fs.StringVar(&both, "tls-ca", "none", "")
		fs.StringSliceVar(&list, "list", nil, "")
		fs.IntVar(&n, "n", 1, "")
		fs.DurationVar(&wait, "wait", time.Second, "")
		fs.BoolVar(&yes, "yes", false, "")
		cmd.RunE = func(*cobra.Command, []string) error {
			c.Say("%s %s %s %q %d %v %t", name, text, both, list, n, wait, yes)
			return nil
		}
		if name == "push" {
			group := &cobra.Command{Use: "remote"}
			group.AddCommand(cmd)
			cmd = group
		}
		root.AddCommand(cmd)
	}
	return root
}

func TestSettings(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(other, []byte("tls-ca: of-other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args, env []string
		file      string
		code      int
		want      string
	}{
		"defaults":              {args: []string{"fetch"}, want: "fetch default none [] 1 1s false"},
		"environment":           {args: []string{"fetch"}, env: []string{"TOOL_TLS_CA=env", "TOOL_LIST=a,b", "TOOL_WAIT=3m", "TOOL_YES=true", "OTHER_N=9", "TOOL_X"}, want: `fetch default env ["a" "b"] 1 3m0s true`},
		"file":                  {args: []string{"fetch"}, file: "tls-ca: ca.pem\nlist: [x, y]\nn: 7\nwait: 2s\nyes: true\n", want: `fetch default ca.pem ["x" "y"] 7 2s true`},
		"environment over file": {args: []string{"fetch"}, env: []string{"TOOL_TLS_CA=env"}, file: "tls-ca: file\nn: 3", want: "fetch default env [] 3 1s false"},
		"command line over all": {args: []string{"fetch", "--tls-ca", "line"}, env: []string{"TOOL_TLS_CA=env"}, file: "tls-ca: file", want: "fetch default line [] 1 1s false"},
		"of one command":        {args: []string{"remote", "push"}, file: "n: 2\nremote push: {n: 5, push-text: p}\nfetch: {n: 6}", want: "push p none [] 5 1s false"},
		"of another command":    {args: []string{"fetch"}, file: "push-text: p\nremote push: {n: 5}", want: "fetch default none [] 1 1s false"},
		"another file":          {args: []string{"fetch", "--settings", other}, file: "tls-ca: file", want: "fetch default of-other [] 1 1s false"},
		"a file by environment": {args: []string{"fetch"}, env: []string{"TOOL_SETTINGS=" + other}, want: "fetch default of-other [] 1 1s false"},
		"no such file":          {args: []string{"fetch", "--settings", "none.yaml"}, code: 1, want: "none.yaml"},
		"bad environment":       {args: []string{"fetch"}, env: []string{"TOOL_N=many"}, code: 2, want: "TOOL_N: --n: "},
		"bad value":             {args: []string{"fetch"}, file: "wait: soon", code: 2, want: "greenlight.yaml: --wait: "},
		"unknown flag":          {args: []string{"fetch"}, file: "tls-cas: x", code: 2, want: "no command has a flag --tls-cas: did you mean tls-ca?"},
		"unknown command":       {args: []string{"fetch"}, file: "fetsch: {n: 1}", code: 2, want: `no command "fetsch": did you mean fetch?`},
		"flag of another":       {args: []string{"fetch"}, file: "fetch: {push-text: x}", code: 2, want: "tool fetch has no flag --push-text"},
		"a map too deep":        {args: []string{"fetch"}, file: "fetch: {n: {m: 1}}", code: 2, want: "want a text, a number"},
		"not YAML":              {args: []string{"fetch"}, file: "\t- {", code: 2, want: "greenlight.yaml: yaml:"},
		"help needs no file":    {args: []string{"help", "fetch"}, file: "\t- {", want: "Usage:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if test.file != "" {
				if err := os.WriteFile(SettingsFile, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			code := Run(t.Context(), program, test.args, test.env, strings.NewReader(""), &out, &out)
			if code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("exit %d, %q, want %d and %q", code, out.String(), test.code, test.want)
			}
		})
	}
}

// A shell completes commands, and the flags of a command.
func TestCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"completion bash":     "__start_tool",
		"completion zsh":      "#compdef tool",
		"completion fish":     "complete -c tool",
		"__complete fe":       "fetch\n",
		"__complete remote p": "push\n",
		"__complete fetch --": "--tls-ca",
	} {
		var out bytes.Buffer
		if code := Run(t.Context(), program, strings.Fields(args), nil, strings.NewReader(""), &out, &out); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d, %.200q, want %q", args, code, out.String(), want)
		}
	}
	if got := EnvironmentName("greenlight-lab", "tls-ca"); got != "GREENLIGHT_LAB_TLS_CA" {
		t.Error(fmt.Sprint(got))
	}
}

type sample struct {
	Name  string            `json:"name"`
	Inner []struct{ X int } `json:"inner"`
	Up    *sample           `json:"up,omitempty"`
	Maps  map[string]bool   `json:"maps"`
	Time  time.Time         `json:"time"`
	skip  int
	Drop  int `json:"-"`
}

// The form of a schema names the fields that its JSON has.
func TestOutputForm(t *testing.T) {
	newRoot := func(c Console) *cobra.Command {
		root := &cobra.Command{Use: "tool"}
		cmd := &cobra.Command{Use: "show"}
		var show func(sample) error
		cmd.RunE = func(*cobra.Command, []string) error {
			c.Say("text for people")
			return show(sample{Name: "<n>", Inner: []struct{ X int }{{1}}, Maps: map[string]bool{"a": true}, skip: 1})
		}
		show = Outputs[sample](c, cmd, "tool/show/v1")
		if schema, form, ok := Output(cmd); !ok || schema != "tool/show/v1" || form != "name  string\ninner[].X  number\nup  as above\nmaps{}  bool\ntime  time (RFC 3339)" {
			t.Errorf("%s: %q", schema, form)
		}
		root.AddCommand(cmd)
		return root
	}
	for format, want := range map[string]string{
		"text": "text for people\n",
		"json": "{\n  \"schema\": \"tool/show/v1\",\n  \"result\": {\n    \"name\": \"<n>\",\n    \"inner\": [\n      {\n        \"X\": 1\n      }\n    ],\n" +
			"    \"maps\": {\n      \"a\": true\n    },\n    \"time\": \"0001-01-01T00:00:00Z\"\n  }\n}\n",
	} {
		var out bytes.Buffer
		if code := Run(t.Context(), newRoot, []string{"show", "--output", format}, nil, strings.NewReader(""), &out, &out); code != 0 || out.String() != want {
			t.Errorf("%s: exit %d, %s", format, code, out.String())
		}
	}
}
