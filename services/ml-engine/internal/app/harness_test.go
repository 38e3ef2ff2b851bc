package app_test

import (
	"context"
	"flag"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/app"
)

const version = "v1.8.1-test"

// options returns the options of a service on free ports with a valid model.
func options(t *testing.T) *app.Options {
	t.Helper()
	o := app.Flags(flag.NewFlagSet("ml-engine", flag.ContinueOnError))
	o.Models, o.Model = enginetest.Registry(t, "v1.8.1", version), version
	o.GRPCAddr, o.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	o.AddressFile = filepath.Join(t.TempDir(), "addresses")
	return o
}

// start runs the service until the test ends.
func start(t *testing.T, o *app.Options) *servetest.Service {
	t.Helper()
	return servetest.Start(t, o.AddressFile, func(ctx context.Context, logger *slog.Logger) error { return app.Run(ctx, o, logger) })
}

// registry is a folder with a changed copy of the valid model.
func registry(t *testing.T, change func(*model.Artifact)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	a := enginetest.Artifact(t, "v1.8.1", version)
	change(a)
	if err := model.OpenRegistry(dir).Add(a); err != nil {
		t.Fatal(err)
	}
	return dir
}
