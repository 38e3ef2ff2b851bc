package decision_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/link"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
	"github.com/greenlight-ml/greenlight/services/executor/internal/live"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// executor is the services with a real server and client in memory, and an engine that can be made to fail, all in a
// synctest bubble.
type executor struct {
	executorv1.DecisionServiceClient

	t        *testing.T
	reports  executorv1.ShadowServiceClient
	rollouts *rollout.Keeper
	control  *rollout.Service
	gate     *gate.Keeper
	engine   *enginetest.Engine
	shadows  *shadow.Dispatcher
	service  *decision.Service
	// reportService serves reports.
	reportService *decision.ReportService
	formula       *model.Baseline
	rng           *rand.Rand
	reg           *prometheus.Registry
}

// setup has the settings of a test. The zero value is an empty book and no OnSettled.
type setup struct {
	// baseline is --baseline, and models its registry; by default it is a heuristic of schema v1.8.1.
	baseline, models string
	book             *live.Book
	settled          func(shadow.Request, shadow.Result)
	// rollout, if set, wraps the rollout of the service.
	rollout func(decision.Rollout) decision.Rollout
	// maxMessage limits a received message, in bytes; 0 is the default.
	maxMessage int
	// queue is how many shadows may wait; 0 is the default.
	queue int
	// gated allows a model to decide, with this state folder.
	gated string
}

// start starts it with the percentage of sampled requests.
func start(t *testing.T, engine enginetest.Options, percent float64, changes ...func(*setup)) *executor {
	t.Helper()
	s := setup{book: emptyBook(t)}
	for _, change := range changes {
		change(&s)
	}
	e := &executor{t: t, engine: enginetest.Start(t, engine), rng: rand.New(rand.NewPCG(11, 12))}
	e.formula = enginetest.Artifact(t, "v1.8.1", "any").Baseline
	if s.baseline == "" {
		s.baseline = "heuristic=" + filepath.Join(enginetest.Registry(t, "v1.8.1", "any"), "test", "any", model.BaselineFile)
	}
	baseline, err := decision.LoadBaseline(s.baseline, s.models, nil)
	if err != nil {
		t.Fatal(err)
	}
	known := feature.NewKnown()
	if err := baseline.Learn(known); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	e.reg = reg
	logger := slog.New(slog.DiscardHandler)
	opts := shadow.DefaultOptions()
	e.gate, err = gate.Open(gate.Options{Allowed: s.gated != "", Dir: s.gated, Timeout: opts.Timeout, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.gate.Stop)
	reg.MustRegister(e.gate)
	e.rollouts, err = rollout.Open(rollout.Options{Percent: percent, Salt: "salt", Dir: s.gated, Gate: e.gate, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.rollouts.Stop)
	e.control = rollout.NewService(e.rollouts)
	opts.Logger, opts.Registerer, opts.OnSettled, opts.Schemas = logger, reg, s.settled, known
	if s.queue > 0 {
		opts.QueueSize = s.queue
	}
	client, err := link.Connect(e.engine.Target(), nil, link.Options{
		Timeout: opts.Timeout, MaxInFlight: opts.MaxInFlight, MaxBatch: opts.MaxBatch, Logger: logger, Registerer: reg,
	}, e.engine.Dialer()...)
	if err != nil {
		t.Fatal(err)
	}
	opts.Engine = client
	e.shadows, err = shadow.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	e.gate.Ask(e.shadows.Active)
	server := rpc.NewServer(rpc.ServerOptions{Logger: logger, Registerer: reg, MaxMessage: s.maxMessage})
	rollouts := decision.Rollout(e.rollouts)
	if s.rollout != nil {
		rollouts = s.rollout(rollouts)
	}
	e.service = decision.New(baseline, rollouts, e.gate, e.shadows, s.book, decision.NewMetrics(reg))
	executorv1.RegisterDecisionServiceServer(server, e.service)
	e.reportService = decision.NewReportService(baseline, e.shadows, e.rollouts)
	e.reportService.SetOperators(server.AsOperator)
	executorv1.RegisterShadowServiceServer(server, e.reportService)
	server.Ready()
	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := rpc.Dial("passthrough:///bufnet", nil, grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := e.shadows.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	e.DecisionServiceClient, e.reports = executorv1.NewDecisionServiceClient(conn), executorv1.NewShadowServiceClient(conn)
	synctest.Wait()
	return e
}

// fixed is a rollout that never changes.
func fixed(t testing.TB, percent float64) *rollout.Keeper {
	t.Helper()
	k, err := rollout.Open(rollout.Options{Percent: percent, Salt: "salt", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

// ungated is a gate that is never allowed.
func ungated(t testing.TB) *gate.Keeper {
	t.Helper()
	k, err := gate.Open(gate.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// emptyBook is a book without quotes.
func emptyBook(t testing.TB) *live.Book {
	t.Helper()
	return newBook(t, feature.BuildersOptions{})
}

func newBook(t testing.TB, opts feature.BuildersOptions) *live.Book {
	t.Helper()
	b, err := feature.NewBuilders(opts)
	if err != nil {
		t.Fatal(err)
	}
	return live.NewBook(b, slog.New(slog.DiscardHandler))
}

// report returns ShadowService's report, and the outcomes so far by name.
func (e *executor) report() (*executorv1.GetShadowReportResponse, map[string]uint64) {
	e.t.Helper()
	r, err := e.reports.GetShadowReport(e.t.Context(), &executorv1.GetShadowReportRequest{})
	if err != nil {
		e.t.Fatal(err)
	}
	counts, sum := map[string]uint64{}, r.GetInFlight()
	for _, c := range r.GetOutcomesTotal() {
		sum += c.GetCount()
		if c.GetCount() > 0 {
			counts[shadow.Outcome(c.GetOutcome()).String()] = c.GetCount()
		}
	}
	if sum != r.GetRequestsTotal() {
		e.t.Errorf("requests %d, but outcomes and in flight add up to %d", r.GetRequestsTotal(), sum)
	}
	return r, counts
}

func schema(t *testing.T, name string) *feature.Schema {
	t.Helper()
	s, ok := feature.Lookup(name)
	if !ok {
		t.Fatalf("no schema %q", name)
	}
	return s
}

// named returns the state by name.
func named(s *feature.Schema, x []float64) map[string]float64 {
	m := map[string]float64{}
	for i, f := range s.Features {
		m[f.Name] = x[i]
	}
	return m
}

// baselineOf returns the decision for the state, computed independently of the service.
func (e *executor) baselineOf(s *feature.Schema, x []float64) float64 {
	var inputs []float64
	for _, name := range e.formula.Inputs() {
		inputs = append(inputs, x[s.Index(name)])
	}
	return e.formula.Score(inputs)
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
