package check

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// root is the repository.
const root = "../.."

// bin is the folder of the three programs once build has been called: GREENLIGHT_BIN, or a folder of this run.
var bin string

var build = sync.OnceValue(func() error {
	if os.Getenv("GREENLIGHT_BIN") != "" {
		return nil
	}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", bin+"/",
		"./services/ml-engine", "./services/executor", "./services/greenlight")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=")
	cmd.Stderr = os.Stderr
	return cmd.Run()
})

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if bin = os.Getenv("GREENLIGHT_BIN"); bin != "" {
		return m.Run()
	}
	var err error
	if bin, err = os.MkdirTemp("", "greenlight-check"); err != nil {
		panic("check: " + err.Error())
	}
	defer func() { _ = os.RemoveAll(bin) }()
	return m.Run()
}

// flagName matches a flag at the beginning of its line in the output of -h, in the style of flag and of pflag.
var flagName = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--?([a-z][a-z0-9.-]*)`)

// checkFlags checks a command line against the help of the program: every flag must exist there. The command line may begin
// with command names.
func checkFlags(t *testing.T, program string, args []string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	var help []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		help, args = append(help, args[0]), args[1:]
	}
	out, err := exec.CommandContext(t.Context(), path, append(help, "--help")...).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Usage") {
		t.Fatalf("%s %s --help: %v\n%s", filepath.Base(program), strings.Join(help, " "), err, out)
	}
	known := map[string]bool{}
	for _, m := range flagName.FindAllStringSubmatch(string(out), -1) {
		known[m[1]] = true
	}
	if len(known) < 5 {
		t.Fatalf("%s %s: found %d flags in its help", filepath.Base(program), strings.Join(help, " "), len(known))
	}
	for _, a := range args {
		name, isFlag := strings.CutPrefix(a, "--")
		if !isFlag {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if !known[name] {
			t.Errorf("%s %s has no flag --%s", filepath.Base(program), strings.Join(help, " "), name)
		}
	}
}

// program returns the path of one of our programs.
func program(t *testing.T, name string) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatalf("build the programs: %v", err)
	}
	return filepath.Join(bin, name)
}
