package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const natsFolder = root + "/deploy/nats"

// The credentials created by deploy/nats/keys allow what the guide lists, and no more. A test of package natsgroup shows that
// an executor and the operator need no more than that.
func TestPermissionsAreThoseOfTheGuide(t *testing.T) {
	guide, err := os.ReadFile(root + "/docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(guide)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(cells[3], " `") {
			continue
		}
		want = append(want, fmt.Sprintln(strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), strings.Trim(cells[3], " `")))
	}
	got, err := os.ReadFile(natsFolder + "/permissions")
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < 15 || string(got) != strings.Join(want, "") {
		t.Errorf("deploy/nats/permissions:\n%s\nthe table of docs/fleet.md:\n%s", got, strings.Join(want, ""))
	}
}

// The NATS servers of docker-compose.yml read their configuration, and find each other.
func TestNATSReadsItsConfiguration(t *testing.T) {
	project := load(t, "fleet")
	var servers []string
	for _, name := range project.ServiceNames() {
		if fleetStack[name].program == "nats" {
			servers = append(servers, name)
		}
	}
	slices.Sort(servers)
	etc := layOut(t)
	auth(t, filepath.Join(etc, "..", "..", "auth"))
	for _, name := range servers {
		o := configured(t, etc, name)
		var routes []string
		for _, r := range o.Routes {
			routes = append(routes, r.Hostname())
			if r.Port() != fmt.Sprint(o.Cluster.Port) {
				t.Errorf("%s: the route %s leads to another port than %d", name, r, o.Cluster.Port)
			}
		}
		if o.ServerName != name || len(servers) != 3 || !slices.Equal(routes, servers) {
			t.Errorf("%s is %q, with routes to %v: want %v", name, o.ServerName, routes, servers)
		}
		if !o.JetStream || o.StoreDir != "/state" || len(o.TrustedOperators) != 1 || o.SystemAccount == "" {
			t.Errorf("%s: JetStream %v in %s, %d operators, system account %q", name, o.JetStream, o.StoreDir, len(o.TrustedOperators), o.SystemAccount)
		}
		s := project.Services[name]
		if want := []string{"CMD", "/healthprobe", fmt.Sprintf("http://127.0.0.1:%d/healthz", o.HTTPPort)}; !slices.Equal(s.HealthCheck.Test, want) {
			t.Errorf("%s: health check %v, want %v", name, s.HealthCheck.Test, want)
		}
		if version := *s.Build.Args["BASE"]; version != "nats:"+server.VERSION {
			t.Errorf("%s is built on %s, and tested with %s", name, version, server.VERSION)
		}
	}
	callers := 0
	for _, name := range project.ServiceNames() {
		s := project.Services[name]
		urls := s.Environment["GREENLIGHT_FLEET"]
		for _, a := range s.Command {
			if u, is := strings.CutPrefix(a, "--fleet="); is {
				urls = &u
			}
		}
		if urls == nil {
			continue
		}
		callers++
		if *urls != "nats://"+strings.Join(servers, ":4222,nats://")+":4222" {
			t.Errorf("%s calls %s, and the servers are %v", name, *urls, servers)
		}
	}
	if callers != 5 {
		t.Errorf("%d services call NATS, want four executors and the page", callers)
	}
}

// With the keys created by deploy/nats/keys, a server runs, and an executor reports from the state folder that was created for
// it and publishes only on its own subjects. Running keys again changes nothing.
func TestKeysOfAGroup(t *testing.T) {
	if _, err := exec.LookPath("nsc"); err != nil {
		t.Skip("there is no nsc here")
	}
	etc := layOut(t)
	folder := filepath.Join(etc, "..", "..")
	content := func() string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(natsFolder, "keys"), folder, "desk-a", "executor-1", "executor-2")
		cmd.Env = append(os.Environ(), "GREENLIGHT="+program(t, "greenlight"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("keys: %v\n%s", err, out)
		}
		var all strings.Builder
		for _, file := range []string{
			"auth/auth.conf", "operator/fleet.creds", "operator/fleet.pem", "trust/fleet.pem.pub", "executor-1/fleet.pem.pub",
			"executor-1/fleet.creds", "executor-1/quality.json", "executor-2/fleet.creds", "executor-2/quality.json",
		} {
			raw, err := os.ReadFile(filepath.Join(folder, file))
			if err != nil {
				t.Fatal(err)
			}
			all.Write(raw)
		}
		return all.String()
	}
	if once := content(); once != content() {
		t.Error("keys has replaced existing files")
	}

	o := configured(t, etc, "nats-1")
	o.Host, o.Port, o.HTTPPort, o.StoreDir, o.Cluster, o.Routes = "127.0.0.1", server.RANDOM_PORT, 0, t.TempDir(), server.ClusterOpts{}, nil
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server has not started")
	}
	connect := func(who string) *nats.Conn {
		t.Helper()
		c, err := nats.Connect(s.ClientURL(), nats.UserCredentials(filepath.Join(folder, who, "fleet.creds")))
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		t.Cleanup(c.Close)
		return c
	}
	operator, executor := connect("operator"), connect("executor-1")
	reports, err := operator.SubscribeSync("greenlight.desk-a.report.*")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, operator)
	for _, who := range []string{"executor-2", "executor-1"} {
		subject := "greenlight.desk-a.report." + id(t, filepath.Join(folder, who))
		if err := executor.Publish(subject, []byte(who)); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, executor)
	if m, err := reports.NextMsg(time.Minute); err != nil || string(m.Data) != "executor-1" {
		t.Errorf("executor-1 has published %+v (%v): want only its own report", m, err)
	}
	state := filepath.Join(folder, "executor-2")
	follow(t, "--baseline=caller=test@1", "--state-dir="+state, "--sample-percent=0", "--fleet="+s.ClientURL(), "--fleet-group=desk-a",
		"--fleet-creds="+filepath.Join(state, "fleet.creds"), "--fleet-trust="+filepath.Join(state, "fleet.pem.pub"))
	if m, err := reports.NextMsg(time.Minute); err != nil || m.Subject != "greenlight.desk-a.report."+id(t, state) {
		t.Errorf("executor-2 has published %+v (%v): want its report", m, err)
	}
	js, err := operator.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(&nats.KeyValueConfig{Bucket: "greenlight-desk-a", Storage: nats.FileStorage}); err != nil {
		t.Errorf("the operator cannot create the bucket: %v", err)
	}
}

// follow runs executor until the test ends.
func follow(t *testing.T, args ...string) {
	t.Helper()
	var log strings.Builder
	cmd := exec.CommandContext(t.Context(), program(t, "executor"), append(args, "--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0")...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // ended by the context of the test
		if t.Failed() {
			t.Logf("executor:\n%s", log.String())
		}
	})
}

func flush(t *testing.T, c *nats.Conn) {
	t.Helper()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// id is the id of the executor with the state folder.
func id(t *testing.T, folder string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, "quality.json"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(raw), `"`)
	return parts[len(parts)-2]
}

// layOut copies the configuration as the containers see it, and returns its folder etc/nats.
func layOut(t *testing.T) string {
	t.Helper()
	etc := filepath.Join(t.TempDir(), "etc", "nats")
	if err := os.CopyFS(etc, os.DirFS(natsFolder)); err != nil {
		t.Fatal(err)
	}
	return etc
}

// configured reads the configuration of a server with the environment of its container.
func configured(t *testing.T, etc, name string) *server.Options {
	t.Helper()
	t.Setenv("SERVER_NAME", *load(t, "fleet").Services[name].Environment["SERVER_NAME"])
	o, err := server.ProcessConfigFile(filepath.Join(etc, "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// auth writes auth.conf in the form of nsc generate config --mem-resolver.
func auth(t *testing.T, folder string) {
	t.Helper()
	operator, account := must(t, nkeys.CreateOperator), must(t, nkeys.CreateAccount)
	id := must(t, account.PublicKey)
	claims := jwt.NewOperatorClaims(must(t, operator.PublicKey))
	claims.SystemAccount = id
	text := fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n  %s: %s\n}\n",
		must(t, func() (string, error) { return claims.Encode(operator) }), id,
		id, must(t, func() (string, error) { return jwt.NewAccountClaims(id).Encode(operator) }))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "auth.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T, create func() (T, error)) T {
	t.Helper()
	v, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
