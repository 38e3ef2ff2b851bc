package main

import (
	gover "go/version"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	self     = "github.com/greenlight-ml/greenlight/deploy/linkcheck"
	contract = "github.com/greenlight-ml/greenlight/proto"
)

// allowed lists the modules that the contract may bring into an integrator's program: gRPC, Protocol Buffers and their own
// dependencies.
var allowed = regexp.MustCompile(`^(google\.golang\.org/(grpc|protobuf|genproto/googleapis/rpc)|golang\.org/x/[a-z]+)$`)

// Checks this binary, and everything that a program can link of the contract: every module that has a package in it.
func TestLinkedModulesAreGRPCAndProtobuf(t *testing.T) {
	linked := strings.Fields(goList(t, "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".", contract+"/..."))
	slices.Sort(linked)
	linked = slices.Compact(linked)
	for _, must := range []string{contract, "google.golang.org/grpc", "google.golang.org/protobuf"} {
		if !slices.Contains(linked, must) {
			t.Errorf("%s is not linked: the list is incomplete", must)
		}
	}
	for _, module := range linked {
		if module != self && module != contract && !allowed.MatchString(module) {
			t.Errorf("linking the contract links %s", module)
		}
	}
}

// Checks the module graph: the requirements in the contract's go.mod, which an integrator's go.sum and scanners see. gRPC's
// own requirements, for its tests and add-ons, are not checked.
func TestContractRequiresGRPCAndProtobuf(t *testing.T) {
	var edges int
	for line := range strings.Lines(goList(t, "mod", "graph")) {
		from, to, ok := strings.Cut(strings.TrimSpace(line), " ")
		from, _, _ = strings.Cut(from, "@")
		to, _, _ = strings.Cut(to, "@")
		if !ok || from != contract || to == "go" || to == "toolchain" {
			continue
		}
		edges++
		if !allowed.MatchString(to) {
			t.Errorf("the contract's go.mod requires %s", to)
		}
	}
	if edges == 0 {
		t.Error("the contract requires nothing: the graph is incomplete")
	}
}

// The contract requires no newer Go than its dependencies do, so that integrators can stay on an older one.
func TestContractAsksForTheOldestGo(t *testing.T) {
	var asked, oldest string
	for line := range strings.Lines(goList(t, "-C", "../../proto", "list", "-m", "-f", "{{.Path}} go{{.GoVersion}}", "all")) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case path == contract:
			asked = version
		case allowed.MatchString(path) && gover.Compare(version, oldest) > 0:
			oldest = version
		}
	}
	if asked != oldest || !gover.IsValid(asked) {
		t.Errorf("the contract requires %q, its dependencies %q", asked, oldest)
	}
}

func goList(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off") // integrators have no workspace
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
