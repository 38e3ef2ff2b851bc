package check

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// services lists the services of the stack: their program, for the flags, and whether they answer a health check.
var stack = map[string]struct {
	program string
	// prober is the program that the health check runs, so the image must have it; empty for services that exit or do not
	// listen.
	prober string
}{
	"train":      {"greenlight", ""},
	"ml-engine":  {"ml-engine", "/healthprobe"},
	"executor":   {"executor", "/healthprobe"},
	"replay":     {"greenlight", ""},
	"agent":      {"greenlight", "/healthprobe"},
	"prometheus": {"prometheus", "wget"},
	"grafana":    {"", "wget"},
}

// fleetStack lists what the profile fleet adds. For a third-party program, it names the base image that has it.
var fleetStack = map[string]struct{ program, prober string }{
	"fleet-keys":       {"natsio/nats-box", ""},
	"nats-1":           {"nats", "/healthprobe"},
	"nats-2":           {"nats", "/healthprobe"},
	"nats-3":           {"nats", "/healthprobe"},
	"registry":         {"registry", "/healthprobe"},
	"fleet-push":       {"greenlight", ""},
	"fleet-engine-1":   {"ml-engine", "/healthprobe"},
	"fleet-engine-2":   {"ml-engine", "/healthprobe"},
	"fleet-executor-1": {"executor", "/healthprobe"},
	"fleet-executor-2": {"executor", "/healthprobe"},
	"fleet-executor-3": {"executor", "/healthprobe"},
	"fleet-executor-4": {"executor", "/healthprobe"},
	"fleet-replay-1":   {"greenlight", ""},
	"fleet-replay-2":   {"greenlight", ""},
	"fleet-replay-3":   {"greenlight", ""},
	"fleet-replay-4":   {"greenlight", ""},
	"fleet-page":       {"greenlight", "/healthprobe"},
}

// once lists the services that exit.
var once = []string{"train", "fleet-keys", "fleet-push"}

// Without the profile the stack is one pair.
func TestComposeServices(t *testing.T) {
	if got := load(t).ServiceNames(); len(got) != len(stack) {
		t.Errorf("services without a profile: got %v, want those of the table", got)
	}
	project := load(t, "fleet")
	if len(project.Services) != len(stack)+len(fleetStack) {
		t.Errorf("services: got %v, want those of the tables", project.ServiceNames())
	}
	for name, s := range project.Services {
		want, ok := stack[name]
		if !ok {
			want, ok = fleetStack[name]
		}
		if !ok {
			t.Errorf("service %s is not in the tables of this test", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			hardened(t, s)
			limited(t, s)
			local(t, s)
			switch {
			case want.prober == "" && s.HealthCheck != nil:
				t.Error("a health check of a service that does not answer")
			case want.prober != "" && (s.HealthCheck == nil || len(s.HealthCheck.Test) < 3 || s.HealthCheck.Test[0] != "CMD" || s.HealthCheck.Test[1] != want.prober):
				t.Errorf("health check: got %+v, want CMD %s", s.HealthCheck, want.prober)
			}
			if !slices.Contains(once, name) && s.Restart != types.RestartPolicyUnlessStopped {
				t.Errorf("restart: got %q", s.Restart)
			}
			switch want.program {
			case "":
			case "prometheus":
				if _, err := exec.LookPath("prometheus"); err != nil {
					t.Log("its flags are not checked: there is no prometheus here")
					return
				}
				checkFlags(t, "prometheus", s.Command)
			case "nats", "natsio/nats-box", "registry":
				image, version, _ := strings.Cut(*s.Build.Args["BASE"], ":")
				if image != want.program || version == "" || version == "latest" || len(s.Entrypoint) == 0 {
					t.Errorf("built on %s:%s, entry point %v: want a version of %s and its program", image, version, s.Entrypoint, want.program)
				}
			default:
				if wantImage := "greenlight/" + want.program + ":local"; s.Image != wantImage || *s.Build.Args["SERVICE"] != want.program {
					t.Errorf("image %s with SERVICE=%s: want %s", s.Image, *s.Build.Args["SERVICE"], wantImage)
				}
				checkFlags(t, program(t, want.program), s.Command)
			}
		})
	}
}

// Start order: nothing scores before there is a model, and nothing sends requests before there is a server. The executor waits
// only for the model's baseline.
func TestComposeStartOrder(t *testing.T) {
	project := load(t, "fleet")
	want := map[string]map[string]string{
		"train":      {},
		"ml-engine":  {"train": types.ServiceConditionCompletedSuccessfully},
		"executor":   {"train": types.ServiceConditionCompletedSuccessfully},
		"replay":     {"ml-engine": types.ServiceConditionHealthy, "executor": types.ServiceConditionHealthy},
		"agent":      {"ml-engine": types.ServiceConditionHealthy, "executor": types.ServiceConditionHealthy},
		"prometheus": {},
		"grafana":    {"prometheus": types.ServiceConditionHealthy},

		"fleet-keys": {},
		"registry":   {},
		"fleet-push": {"train": types.ServiceConditionCompletedSuccessfully, "registry": types.ServiceConditionHealthy},
		"fleet-page": {"fleet-keys": types.ServiceConditionCompletedSuccessfully},
	}
	for i := range 4 {
		n := fmt.Sprint(i + 1)
		want["fleet-executor-"+n] = map[string]string{
			"train": types.ServiceConditionCompletedSuccessfully, "fleet-keys": types.ServiceConditionCompletedSuccessfully,
		}
		want["fleet-replay-"+n] = map[string]string{"fleet-executor-" + n: types.ServiceConditionHealthy}
		if i < 3 {
			want["nats-"+n] = map[string]string{"fleet-keys": types.ServiceConditionCompletedSuccessfully}
		}
		if i < 2 {
			want["fleet-engine-"+n] = map[string]string{"fleet-push": types.ServiceConditionCompletedSuccessfully}
		}
	}
	if len(want) != len(project.Services) {
		t.Errorf("the table has %d services, want %v", len(want), project.ServiceNames())
	}
	for name, after := range want {
		got := project.Services[name].DependsOn
		if len(got) != len(after) {
			t.Errorf("%s starts after %v, want %v", name, got, after)
		}
		for other, condition := range after {
			if got[other].Condition != condition {
				t.Errorf("%s waits for %s to be %q, want %q", name, other, got[other].Condition, condition)
			}
		}
	}
}

// Executors and Prometheus find the services of the profile by a name that they share.
func TestComposeNamesOfTheFleet(t *testing.T) {
	project := load(t, "fleet")
	config, err := os.ReadFile(root + "/deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ services, port int }{"fleet-executor": {4, 4021}, "fleet-engine": {2, 4011}} {
		services := 0
		for _, s := range project.Services {
			if n := s.Networks["default"]; n != nil && slices.Contains(n.Aliases, name) {
				services++
				if !slices.Contains(s.Command, fmt.Sprintf("--http-addr=0.0.0.0:%d", want.port)) {
					t.Errorf("%s does not listen on %d", s.Name, want.port)
				}
			}
		}
		if entry := fmt.Sprintf("{ names: [%s], type: A, port: %d }", name, want.port); services != want.services || !strings.Contains(string(config), entry) {
			t.Errorf("%d services are %s, want %d; Prometheus must have %s", services, name, want.services, entry)
		}
	}
	for i := range 4 {
		if s := project.Services[fmt.Sprint("fleet-executor-", i+1)]; !slices.Contains(s.Command, "--engine-addr=dns:///fleet-engine:4010") {
			t.Errorf("%s calls other engines: %v", s.Name, s.Command)
		}
	}
}

// Every state has a volume, every volume has one or several known users, and a user that only reads cannot write.
func TestComposeVolumes(t *testing.T) {
	project := load(t, "fleet")
	want := map[string][]string{
		"models": {
			"executor read", "fleet-executor-1 read", "fleet-executor-2 read", "fleet-executor-3 read", "fleet-executor-4 read", "fleet-page read",
			"fleet-push read", "fleet-replay-1 read", "fleet-replay-2 read", "fleet-replay-3 read", "fleet-replay-4 read",
			"ml-engine read", "replay read", "train write",
		},
		"evidence":        {"agent write", "fleet-page write", "train write"},
		"engine-state":    {"ml-engine write"},
		"executor-state":  {"executor write"},
		"agent-state":     {"agent write"},
		"prometheus-data": {"prometheus write"},

		// Only the service that creates the keys sees all of them.
		"fleet":                {"fleet-keys write"},
		"fleet/auth":           {"nats-1 read", "nats-2 read", "nats-3 read"},
		"fleet/operator":       {"fleet-page write"},
		"fleet/executor-1":     {"fleet-executor-1 write"},
		"fleet/executor-2":     {"fleet-executor-2 write"},
		"fleet/executor-3":     {"fleet-executor-3 write"},
		"fleet/executor-4":     {"fleet-executor-4 write"},
		"nats-1-state":         {"nats-1 write"},
		"nats-2-state":         {"nats-2 write"},
		"nats-3-state":         {"nats-3 write"},
		"registry-state":       {"registry write"},
		"fleet-engine-1-state": {"fleet-engine-1 write"},
		"fleet-engine-2-state": {"fleet-engine-2 write"},
	}
	got := map[string][]string{}
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			access := " write"
			if v.ReadOnly {
				access = " read"
			}
			switch v.Type {
			case types.VolumeTypeVolume:
				source := v.Source
				if v.Volume != nil {
					source = path.Join(source, v.Volume.Subpath)
				}
				got[source] = append(got[source], name+access)
			case types.VolumeTypeBind:
				if !v.ReadOnly {
					t.Errorf("%s can write to %s of this repository", name, v.Source)
				}
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			default:
				t.Errorf("%s: volume of type %s", name, v.Type)
			}
		}
	}
	for volume, users := range want {
		slices.Sort(got[volume])
		if !slices.Equal(got[volume], users) {
			t.Errorf("volume %s: got %v, want %v", volume, got[volume], users)
		}
	}
	declared := slices.DeleteFunc(slices.Collect(maps.Keys(want)), func(v string) bool { return strings.Contains(v, "/") })
	if len(project.Volumes) != len(declared) || len(got) != len(want) {
		t.Errorf("volumes: declared %v, used %v", project.VolumeNames(), got)
	}
}

// hardened asserts the restrictions on a compromised program.
func hardened(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly {
		t.Error("its root file system is writable")
	}
	if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) != 0 {
		t.Errorf("capabilities: drops %v, adds %v", s.CapDrop, s.CapAdd)
	}
	if !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
		t.Errorf("security options: got %v", s.SecurityOpt)
	}
	user, _, _ := strings.Cut(s.User, ":")
	if user == "" || user == "0" || strings.Trim(user, "0123456789") != "" {
		t.Errorf("user: got %q, want a number that is not root", s.User)
	}
	if s.Privileged || s.Pid != "" || s.Ipc != "" || s.NetworkMode == "host" {
		t.Error("it shares something with the host")
	}
	for key, value := range s.Environment {
		for _, word := range []string{"PASSWORD", "SECRET", "TOKEN", "API_KEY"} {
			if strings.Contains(key, word) && value != nil && *value != "" {
				t.Errorf("%s is in the file", key)
			}
		}
	}
	if len(s.Secrets) != 0 || len(s.EnvFiles) != 0 {
		t.Error("it takes secrets, and the stack is meant to have none")
	}
}

// limited asserts that one container cannot take the host's resources from the others.
func limited(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	if s.MemLimit <= 0 || s.CPUS <= 0 || s.PidsLimit <= 0 {
		t.Errorf("limits: memory %d, CPUs %v, processes %d", s.MemLimit, s.CPUS, s.PidsLimit)
	}
	if s.Logging == nil || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
		t.Error("its log has no bound")
	}
	for _, mount := range s.Tmpfs {
		if !strings.Contains(mount, "size=") {
			t.Errorf("tmpfs %s has no bound", mount)
		}
	}
}

// local asserts that it is not reachable from the network, and that its image has a version.
func local(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			t.Errorf("port %s is published on %q", p.Published, p.HostIP)
		}
	}
	_, tag, ok := strings.Cut(filepath.Base(s.Image), ":")
	if !ok || tag == "latest" {
		t.Errorf("image %s has no version", s.Image)
	}
}

// load reads docker-compose.yml like docker compose with the given profiles: validated against its schema, merged, and
// consistent.
func load(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) {
		o.SetProjectName("greenlight", true)
		o.ResolvePaths, o.Profiles = true, profiles
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}
