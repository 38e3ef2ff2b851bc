// Command executor is the sidecar of a trading executor. It answers with the baseline score. It also asks ml-engine for a
// shadow score, within 60 ms and behind a circuit breaker, and compares, counts and reports.
//
//	executor --baseline heuristic=models/btcperp/v1.8.1-rc1/baseline.json
//
// The baseline is a formula, a model of the registry (model=<entry>), or the score that comes with each request
// (caller=<name>@<version>).
//
// It serves greenlight.executor.v1.DecisionService and ShadowService on gRPC (127.0.0.1:4020), with health and
// reflection. An HTTP listener (127.0.0.1:4021) offers the same for people, plus endpoints for operators:
//
//	POST /predict-with-shadow  {"features":{...}} in, both scores out
//	GET  /shadow/metrics       quality of the shadow as JSON
//	GET  /metrics              Prometheus metrics
//	GET  /healthz /readyz
//
// A decision takes features by name, a vector of a schema, or a quote. For a quote, executor computes the features from the
// symbol's quotes so far (from ObserveQuotes or earlier decisions). With --state-dir features and rollout survive a
// restart. With --feature-log every request adds a row: its features, both scores and the outcome of the shadow.
//
// Instead of ml-engine, --engine-addr oip://host:port?model=name asks a server of the Open Inference Protocol, with
// --engine-schema.
//
// With --allow-gated an operator can set a gate, behind which the model decides a share of the requests within bounds
// (RolloutService, greenlight gate). KillGate, SIGUSR1 and the file gate.kill in the state folder end that immediately.
//
// If ml-engine (--engine-addr) is absent, slow or wrong, the baseline still answers; /readyz, the log and the outcomes
// show the problem.
//
// By default both listeners are on loopback. --tls-cert enables TLS, --tls-client-ca requires client certificates, and
// --engine-tls-ca connects to ml-engine over TLS. RolloutService and FeedService are for operators (--control-san,
// --control-token-file). See docs/security.md.
//
// --otlp-endpoint exports traces; the standard variables of OpenTelemetry apply.
//
// Every flag can be given as an environment variable: --grpc-addr as EXECUTOR_GRPC_ADDR.
// Logs go to standard error. SIGTERM and SIGINT drain within --shutdown-grace. Exit codes: 0 stopped when asked,
// 1 failed, 2 wrong usage.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	kill := make(chan os.Signal, 1)
	signal.Notify(kill, syscall.SIGUSR1)
	run := func(ctx context.Context, opts *app.Options, logger *slog.Logger) error {
		opts.Kill, opts.Tracing.Getenv = kill, os.Getenv
		return app.Run(ctx, opts, logger)
	}
	code := serve.Main(ctx, "executor", os.Args[1:], os.Stdout, os.Stderr, app.Flags, run)
	stop()
	os.Exit(code)
}
