package app_test

import (
	"context"
	"flag"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options returns the options of a service on free ports with a valid baseline and an engine.
func options(t *testing.T, engine *enginetest.Engine) *app.Options {
	t.Helper()
	o := app.Flags(flag.NewFlagSet("executor", flag.ContinueOnError))
	o.Baseline = "heuristic=" + filepath.Join(enginetest.Registry(t, "v1.8.1", "v1"), "test", "v1", model.BaselineFile)
	o.EngineAddr = engine.Addr()
	o.Shadow.Timeout = 10 * time.Second // so that shadows end with their answers, even on a slow machine
	o.GRPCAddr, o.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	o.AddressFile = filepath.Join(t.TempDir(), "addresses")
	return o
}

// running is an executor on real ports.
type running struct {
	*servetest.Service

	t *testing.T
}

// start runs the service until the test ends.
func start(t *testing.T, o *app.Options) *running {
	t.Helper()
	run := func(ctx context.Context, logger *slog.Logger) error { return app.Run(ctx, o, logger) }
	return &running{servetest.Start(t, o.AddressFile, run), t}
}

// holdUntil is a fault that reports every call's arrival and holds the call until the channel is closed.
func holdUntil(released <-chan struct{}, arrived chan<- struct{}) enginetest.Fault {
	return enginetest.Fault{Before: func(ctx context.Context) error {
		arrived <- struct{}{}
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}
