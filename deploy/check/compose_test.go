package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// services of the stack: what each is of, for its flags, and whether it answers a health check.
var stack = map[string]struct {
	program string
	// prober is the program that its health check runs, and that its image therefore must have; none for what ends by
	// itself or listens nowhere.
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

func TestComposeServices(t *testing.T) {
	project := load(t)
	if len(project.Services) != len(stack) {
		t.Errorf("services: got %v, want those of the table", project.ServiceNames())
	}
	for name, s := range project.Services {
		want, ok := stack[name]
		if !ok {
			t.Errorf("service %s is not in the table of this test", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			hardened(t, s)
			limited(t, s)
			local(t, s)
			switch {
			case want.prober == "" && s.HealthCheck != nil:
				t.Error("a health check of something that does not answer")
			case want.prober != "" && (s.HealthCheck == nil || len(s.HealthCheck.Test) < 3 || s.HealthCheck.Test[0] != "CMD" || s.HealthCheck.Test[1] != want.prober):
				t.Errorf("health check: got %+v, want CMD %s", s.HealthCheck, want.prober)
			}
			if name != "train" && s.Restart != types.RestartPolicyUnlessStopped {
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
			default:
				if wantImage := "greenlight/" + want.program + ":local"; s.Image != wantImage || *s.Build.Args["SERVICE"] != want.program {
					t.Errorf("image %s with SERVICE=%s: want %s", s.Image, *s.Build.Args["SERVICE"], wantImage)
				}
				checkFlags(t, program(t, want.program), s.Command)
			}
		})
	}
}

// What starts when: nothing scores before there is a model, nothing asks before there is somebody to answer; and the
// executor waits for nobody but the model's baseline.
func TestComposeStartOrder(t *testing.T) {
	project := load(t)
	want := map[string]map[string]string{
		"train":      {},
		"ml-engine":  {"train": types.ServiceConditionCompletedSuccessfully},
		"executor":   {"train": types.ServiceConditionCompletedSuccessfully},
		"replay":     {"ml-engine": types.ServiceConditionHealthy, "executor": types.ServiceConditionHealthy},
		"agent":      {"ml-engine": types.ServiceConditionHealthy, "executor": types.ServiceConditionHealthy},
		"prometheus": {},
		"grafana":    {"prometheus": types.ServiceConditionHealthy},
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

// Every state has a volume, every volume one or several known users, and who only reads cannot write.
func TestComposeVolumes(t *testing.T) {
	project := load(t)
	want := map[string][]string{
		"models":          {"executor read", "ml-engine read", "replay read", "train write"},
		"evidence":        {"agent write", "train write"},
		"engine-state":    {"ml-engine write"},
		"executor-state":  {"executor write"},
		"agent-state":     {"agent write"},
		"prometheus-data": {"prometheus write"},
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
				got[v.Source] = append(got[v.Source], name+access)
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
	if len(project.Volumes) != len(want) || len(got) != len(want) {
		t.Errorf("volumes: declared %v, used %v", project.VolumeNames(), got)
	}
}

// hardened asserts what a program that is taken over must not be able to do.
func hardened(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly {
		t.Error("its root can be written")
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

// limited asserts that one container cannot take the host from the others.
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

// local asserts that the network sees nothing of it, and that its image is a version.
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

// load reads docker-compose.yml as docker compose does: against its schema, merged, and consistent.
func load(t *testing.T) *types.Project {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("greenlight", true); o.ResolvePaths = true })
	if err != nil {
		t.Fatal(err)
	}
	return project
}
