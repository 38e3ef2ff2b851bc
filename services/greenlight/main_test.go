package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/testkit/s3test"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

// TestScripts runs the files of testdata/script: commands as a user types them, with the expected output. $BIN has the
// programs, $TREES has LightGBM and XGBoost models, and $DATA has market data, if available. $HASTY is a policy with short
// phases that tolerates a busy machine, $ROOT is the repository, and $PYTHON is a Python with gRPC. UPDATE_SCRIPTS=1 rewrites
// the files that cmp compares.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	t.Parallel()
	bin := need.Programs(t, "../..", "ml-engine", "executor", "greenlight")
	trees, err := filepath.Abs(filepath.Join("..", "..", "pkg", "trees", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	tools, err := filepath.Abs(filepath.Join("..", "..", "bin", "tools")) // has grpcurl if make tools has built it
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) < 5 {
		t.Fatalf("%d scripts (%v), want at least 5", len(scripts), err)
	}
	policy, err := filepath.Abs("testdata/hasty.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	commands := (&pairs{bin: bin, dir: t.TempDir(), certs: issue(t), servers: sync.OnceValue(func() *natstest.Cluster { return natstest.Start(t, 1) })}).commands()
	commands["greenlight"], commands["status"], commands["load"], commands["taken"], commands["rows"], commands["post"], commands["s3"] = greenlight, status, load, taken, rows, post, s3
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BIN", bin)
			env.Setenv("PATH", strings.Join([]string{bin, tools, env.Getenv("PATH")}, string(filepath.ListSeparator)))
			env.Setenv("TREES", trees)
			env.Setenv("HASTY", policy)
			env.Setenv("DATA", os.Getenv("GREENLIGHT_DATA"))
			env.Setenv("ROOT", root)
			env.Setenv("PYTHON", python())
			return nil
		},
		Condition: condition,
		Cmds:      commands,
	})
}

// condition reports whether scripts can use market data, grpcurl (make tools), the clients for Node (make node-client), or the
// Python client. With GREENLIGHT_STRICT=1, grpcurl and Python must be available.
func condition(cond string) (bool, error) {
	switch cond {
	case "data":
		return os.Getenv("GREENLIGHT_DATA") != "", nil
	case "grpcurl":
		return found(findGrpcurl(filepath.Join("..", "..")), "grpcurl is not installed: run make tools")
	case "python":
		_, err := exec.LookPath("grpc_python_plugin")
		return found(err == nil && python() != "", "gRPC for Python is not installed (Debian: apt-get install python3-grpcio protobuf-compiler protobuf-compiler-grpc libprotobuf-dev)")
	case "nodeclient":
		_, err := os.Stat(filepath.Join("..", "..", "deploy", "nodeclient", "node_modules", ".bin", "tsc"))
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// found reports whether something is available. With GREENLIGHT_STRICT=1 it returns an error if it is not.
func found(is bool, missing string) (bool, error) {
	if !is && os.Getenv("GREENLIGHT_STRICT") == "1" {
		return false, errors.New(missing)
	}
	return is, nil
}

// python returns a Python that has gRPC and Protocol Buffers, or an empty string. The first Python in the path need not be
// Debian's.
func python() string {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(context.Background(), name, "-c", "import grpc, google.protobuf").Run() == nil {
			return name
		}
	}
	return ""
}

// greenlight runs the program, which must exit 0.
func greenlight(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("give the exit code: status CODE greenlight ARG...")
	}
	ts.Check(ts.Exec("greenlight", args...))
}

// status runs a command and compares its exit code, for example: status 3 greenlight eval.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "exit status 0"
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ProcessState.String()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := "exit status " + args[0]; got != want {
		ts.Fatalf("got %s, want %s", got, want)
	}
}

// load runs a command that sends requests and judges the answers, for example: load greenlight smoke. It must exit 0, or 3
// only because of latencies, which depend on how busy the machine is.
func load(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: load COMMAND...")
	}
	err := ts.Exec(args[0], args[1:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 3 {
		err = onlySlow(ts.ReadFile("stdout"))
	}
	ts.Check(err)
}

// judgment is a row of a scorecard: its name, its limit, and the verdict.
var judgment = regexp.MustCompile(`(?m)^(\S.*?) +(?:>=|<=|>|<) +([0-9.,]+(?: \S+)?)  .* (PASS|FAIL|INCONCLUSIVE|ERROR)\b`)

// onlySlow returns an error unless the scorecard in out has rows that are not PASS, and the limits of all of them are in
// milliseconds.
func onlySlow(out string) error {
	slow := 0
	for _, row := range judgment.FindAllStringSubmatch(out, -1) {
		switch {
		case row[3] == "PASS":
		case strings.HasSuffix(row[2], " ms"):
			slow++
		default:
			return fmt.Errorf("%s is %s", row[1], row[3])
		}
	}
	if slow == 0 {
		return errors.New("the exit code is 3, but no latency is the reason")
	}
	return nil
}

// TestOnlySlow judges scorecards as commands print them.
func TestOnlySlow(t *testing.T) {
	late := map[string]gate.Observation{
		gate.SmokeSuccess: gate.Measured(1, 1000), gate.SmokeP95: gate.Measured(200, 1000),
	}
	wrong := maps.Clone(late)
	wrong[gate.SmokeSuccess] = gate.Measured(0.5, 1000)
	fast := maps.Clone(late)
	fast[gate.SmokeP95] = gate.Measured(3, 1000)
	for name, tt := range map[string]struct {
		seen map[string]gate.Observation
		want string
	}{
		"late": {late, ""}, "wrong and late": {wrong, "smoke success is FAIL"}, "fast": {fast, "no latency is the reason"},
	} {
		var out strings.Builder
		if err := gate.Judge(gate.Smoke(), tt.seen).Table(&out); err != nil {
			t.Fatal(err)
		}
		if err := onlySlow(out.String()); tt.want == "" && err != nil || tt.want != "" && !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: got %v, want %q of\n%s", name, err, tt.want, &out)
		}
	}
}

// taken listens on a free port for the rest of the script and puts its address into $TAKEN.
func taken(ts *testscript.TestScript, _ bool, _ []string) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
}

// s3 starts a fake S3 server with the bucket rows, sets $GREENLIGHT_S3_ENDPOINT to its URL, and sets credentials.
func s3(ts *testscript.TestScript, _ bool, _ []string) {
	server := &s3test.Server{PageSize: 2}
	server.Make("rows")
	listening := httptest.NewServer(server)
	ts.Defer(func() {
		listening.CloseClientConnections()
		listening.Close()
	})
	ts.Setenv("GREENLIGHT_S3_ENDPOINT", listening.URL)
	ts.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
}

// post posts a file as JSON and copies the answer to a file, for example: post URL request.json answer.json.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: post URL REQUEST ANSWER")
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, args[0], strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close(), os.WriteFile(ts.MkAbs(args[2]), body, 0o600)))
}

// rows writes a CSV file with a desk's own features and label: one row every five minutes for two symbols, for 40 days or the
// given number. The label depends on the features that lightgbm_own_features.txt splits by. If a model file with these
// features is given, its score is the probability of the label, and the column mine is the desk's own score, in [0,1].
func rows(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: rows FILE [DAYS|MODEL]")
	}
	days, probability := 40, func(x []float64) float64 { return model.Sigmoid(1.8*x[4] + 1.2*x[3] - 0.6) }
	if len(args) == 2 {
		if n, err := strconv.Atoi(args[1]); err == nil {
			days = n
		} else {
			f, err := os.Open(args[1])
			ts.Check(err)
			defer func() { _ = f.Close() }()
			boosted, err := trees.Import(args[1], f)
			ts.Check(err)
			probability = boosted.Score
		}
	}
	var b strings.Builder
	b.WriteString("time,symbol,label,mine,imb5,microprice_dev,funding_bp,oi_chg,queue_ratio,my6,my7\n")
	rng := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range days * 288 {
		for _, symbol := range []string{"A", "B"} {
			var x [7]float64
			for k := range x {
				x[k] = rng.NormFloat64()
			}
			label := 0
			p := probability(x[:])
			if rng.Float64() < p {
				label = 1
			}
			fmt.Fprintf(&b, "%s,%s,%d,%v", start.Add(time.Duration(i)*5*time.Minute).Format(time.RFC3339), symbol, label, (p+x[0]*x[0])/(1+x[0]*x[0]))
			for _, v := range x {
				fmt.Fprintf(&b, ",%.5f", v)
			}
			b.WriteString("\n")
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}
