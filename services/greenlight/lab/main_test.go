package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

func TestMain(m *testing.M) {
	program := func(name string) func() {
		return func() {
			if err := syscall.Exec(filepath.Join(os.Getenv("BIN"), name), os.Args, os.Environ()); err != nil {
				_, _ = os.Stderr.WriteString("start " + name + ": " + err.Error() + "\n")
				os.Exit(1)
			}
		}
	}
	testscript.Main(m, map[string]func(){"greenlight": program("greenlight"), "greenlight-lab": program("greenlight-lab")})
}

// TestScripts runs the files of testdata/script: commands as a user types them, and the expected results. $BIN holds the
// programs, $HASTY a policy whose phases take a second and tolerate a busy machine.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the programs as they are built")
	}
	bin := need.Programs(t, "../../..", "ml-engine", "executor", "greenlight", "greenlight-lab")
	policy, err := filepath.Abs("../testdata/hasty.yaml")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BIN", bin)
			env.Setenv("HASTY", policy)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"status": status},
	})
}

// status runs a command and compares its exit code: status 3 greenlight-lab power.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	got := "exit status 0"
	if exit := (*exec.ExitError)(nil); errors.As(ts.Exec(args[1], args[2:]...), &exit) {
		got = exit.ProcessState.String()
	}
	if want := "exit status " + args[0]; got != want {
		ts.Fatalf("got %s, want %s", got, want)
	}
}
