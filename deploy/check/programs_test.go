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

// programs are where the three programs are, built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "greenlight-check") //nolint:usetesting // outlives the test that builds first
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(context.Background(), "go", "build", "-o", dir+"/", //nolint:usetesting // the same
		"./services/ml-engine", "./services/executor", "./services/greenlight")
	build.Dir, build.Env = root, append(os.Environ(), "GOWORK=")
	build.Stderr = os.Stderr
	return dir, build.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// flagName finds a flag at the beginning of its line in what -h prints, in the style of flag and in that of pflag.
var flagName = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--?([a-z][a-z0-9.-]*)`)

// checkFlags holds a command line against the help of the program: every flag must exist there. The command line may
// begin with the names of commands.
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

// program is the path of one of ours.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatalf("build the programs: %v", err)
	}
	return filepath.Join(dir, name)
}
