// Command ml-engine scores market states with a versioned model.
//
//	ml-engine --models models --model v1.8.1-rc1
//
// It loads one model of a registry folder, verifies it (digests, feature schema, golden scores) and serves
// greenlight.mlengine.v1.ScoringService and the Open Inference Protocol on gRPC (127.0.0.1:4010), with health and
// reflection. An HTTP listener (127.0.0.1:4011) offers the same for people, plus endpoints for operators:
//
//	GET  /ml/health        {"ok":true,"model":"v1.8.1-rc1"}
//	GET  /ml/model/info    the active model
//	POST /ml/predict       {"features":{...}} in, {"score":...} out
//	GET  /ml/metrics       Prometheus metrics (also /metrics)
//	GET  /healthz /readyz
//
// It counts the rows that it scores, by hour and by the bins of the model's reference. From the last 28 days of counts it
// answers greenlight.mlengine.v1.DriftService. With --state-dir the counts survive a restart; a crash loses at most the
// last minute.
//
// With --models oci://registry/repository it copies that repository's models into --cache, verifies them and serves from
// there. It copies new tags as they appear. The registry may be unavailable at times.
//
// By default both listeners are on loopback. --tls-cert enables TLS, and --tls-client-ca requires client certificates.
// ModelRegistryService is for operators (--control-san, --control-token-file). See docs/security.md.
//
// --otlp-endpoint exports traces; the standard variables of OpenTelemetry apply.
//
// Every flag can be given as an environment variable: --grpc-addr as ML_ENGINE_GRPC_ADDR. Logs go to standard error.
// SIGTERM and SIGINT drain within --shutdown-grace. Exit codes: 0 stopped when asked, 1 failed, 2 wrong usage.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	run := func(ctx context.Context, opts *app.Options, logger *slog.Logger) error {
		opts.Tracing.Getenv = os.Getenv
		return app.Run(ctx, opts, logger)
	}
	code := serve.Main(ctx, "ml-engine", os.Args[1:], os.Stdout, os.Stderr, app.Flags, run)
	stop()
	os.Exit(code)
}
