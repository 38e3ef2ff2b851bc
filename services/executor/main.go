// Command executor is the sidecar of a trading executor. It answers with the baseline score, always; beside it, it asks
// ml-engine for a shadow score, bounded by 60 ms and guarded by a circuit breaker, and compares, counts and reports.
//
//	executor --baseline heuristic=models/btcperp/v1.8.1-rc1/baseline.json
//
// It serves greenlight.executor.v1.DecisionService and ShadowService on gRPC (127.0.0.1:4020), with health and
// reflection. Beside it an HTTP listener (127.0.0.1:4021) has the same for people, and what operators need:
//
//	POST /predict-with-shadow  {"features":{...}} in, both scores out
//	GET  /shadow/metrics       quality of the shadow as JSON
//	GET  /metrics              Prometheus metrics
//	GET  /healthz /readyz
//
// A decision takes features by name, a vector of a schema, or a quote: then the features are computed here, of what the
// symbol's quotes were so far (ObserveQuotes, or one decision after the other). With --state-dir they outlive a restart.
// With --feature-log every request leaves a row: its features, both scores and what became of the shadow.
//
// ml-engine (--engine-addr) may be absent, slow or wrong: the baseline's answers leave all the same, and /readyz, the
// log and the outcomes say so.
//
// Both listeners are on loopback. With --tls-cert they speak TLS, with --tls-client-ca clients need a certificate, with
// --engine-tls-ca ml-engine is reached over TLS; RolloutService and FeedService are for operators (--control-san,
// --control-token-file); docs/security.md has the rest.
//
// Every flag can be given as an environment variable: --grpc-addr as EXECUTOR_GRPC_ADDR.
// Logs go to standard error. SIGTERM and SIGINT drain within --shutdown-grace. Exit codes: 0 stopped when asked,
// 1 failed, 2 wrong usage.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := lifecycle.Main(ctx, "executor", os.Args[1:], os.Stdout, os.Stderr, app.Flags, app.Run)
	stop()
	os.Exit(code)
}
