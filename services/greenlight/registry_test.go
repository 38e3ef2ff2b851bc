package main

import (
	"log/slog"
	"net/http/httptest"

	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// registry starts an OCI registry for the rest of the script and puts its address into $REGISTRY. registry away ends it.
func (p *pairs) registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 || len(args) == 1 && args[0] != "away" {
		ts.Fatalf("usage: registry [away]")
	}
	at := service{ts, "registry"}
	if len(args) == 1 {
		server, ok := p.running.Load(at)
		if !ok {
			ts.Fatalf("no registry is running")
		}
		server.(*httptest.Server).Close()
		return
	}
	server := httptest.NewServer(ociregistry.New(ociregistry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	ts.Defer(server.Close)
	p.running.Store(at, server)
	ts.Setenv("REGISTRY", server.Listener.Addr().String())
}
